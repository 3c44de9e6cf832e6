package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

func (s *story) peersKnowEachOther(ctx context.Context) error {
	sites := s.mesh.Sites()
	s.say("Three sites, one daemon each, no master.")
	err := until(ctx, "every peer sees three sites alive", func(ctx context.Context) error {
		for _, site := range sites {
			if err := s.alive(ctx, site, 3); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.hansa(ctx, sites[0], "peers")
}

// alive says whether a peer sees so many peers alive.
func (s *story) alive(ctx context.Context, at Site, want int) error {
	var list struct {
		Items []struct {
			State   string   `json:"state"`
			Drivers []string `json:"drivers"` // known once the peer's digest has come
		} `json:"items"`
	}
	if err := s.get(ctx, at, "/v1/peers", &list); err != nil {
		return err
	}
	alive := 0
	for _, p := range list.Items {
		if p.State == "alive" && len(p.Drivers) > 0 {
			alive++
		}
	}
	if alive != want {
		return fmt.Errorf("%s sees %d peers alive, not %d", at.Name, alive, want)
	}
	return nil
}

func (s *story) deploy(ctx context.Context) error {
	first := s.mesh.Sites()[0]
	s.say("Deploy the shop once, at %s: a function (WebAssembly) and a server (a bare process).", first.Name)
	s.wanted = map[string]int{}
	begin := time.Now()
	if err := s.hansa(ctx, first, "deploy", s.Manifest); err != nil {
		return err
	}
	var err error
	if s.wanted["shop"], err = s.slots(ctx, first, "shop"); err != nil {
		return err
	}
	if err := until(ctx, "every slot runs once", func(ctx context.Context) error {
		return s.onceEach(ctx, first, "shop")
	}); err != nil {
		return err
	}
	s.figures.Deploy = time.Since(begin)
	s.note("all %d slots run after %.1f s", s.wanted["shop"], s.figures.Deploy.Seconds())
	return s.hansa(ctx, first, "ps", "shop")
}

// slots is how many slots an app wants, from its intent.
func (s *story) slots(ctx context.Context, at Site, app string) (int, error) {
	var status struct {
		Components []struct {
			Wanted int `json:"wanted"`
		} `json:"components"`
	}
	if err := s.get(ctx, at, "/v1/namespaces/default/apps/"+app+"/status", &status); err != nil {
		return 0, err
	}
	total := 0
	for _, c := range status.Components {
		total += c.Wanted
	}
	if total == 0 {
		return 0, errors.New("the app wants no slots")
	}
	return total, nil
}

func (s *story) callEverywhere(ctx context.Context) error {
	s.say("Ask any peer: the same function answers through all three.")
	for _, site := range s.mesh.Sites() {
		answer, err := s.call(ctx, site)
		if err != nil {
			return err
		}
		var who struct {
			ServedBy struct{ Peer, Slot string } `json:"served_by"`
			Goods    []any                       `json:"goods"`
		}
		if err := json.Unmarshal([]byte(answer), &who); err != nil {
			return fmt.Errorf("the function answered %q: %w", answer, err)
		}
		fmt.Fprintf(s.Out, "   $ hansa invoke shop/api        # at %s\n     %d goods, served by %s, slot %s\n",
			site.Name, len(who.Goods), who.ServedBy.Peer, who.ServedBy.Slot)
	}
	return nil
}

func (s *story) loseFirstSite(ctx context.Context) error {
	sites := s.mesh.Sites()
	s.say("Lose %s, where the app was deployed: its daemon and its work are killed.", sites[0].Name)
	begin := time.Now()
	if err := s.mesh.Kill(ctx, sites[0].Name); err != nil {
		return err
	}
	rest := []string{sites[1].Name, sites[2].Name}
	err := until(ctx, "the lost slots run elsewhere", func(ctx context.Context) error {
		// The others answer all the while.
		for _, site := range sites[1:] {
			if _, err := s.call(ctx, site); err != nil {
				return fmt.Errorf("at %s, while %s is gone: %w", site.Name, sites[0].Name, err)
			}
		}
		return s.onceEach(ctx, sites[1], "shop", rest...)
	})
	if err != nil {
		return err
	}
	s.figures.Failover = time.Since(begin)
	s.note("%.1f s after the kill every slot runs again; the API and the function answered meanwhile", s.figures.Failover.Seconds())
	return errors.Join(
		s.hansa(ctx, sites[1], "ps", "shop"),
		s.hansa(ctx, sites[2], "explain", "shop/api"))
}

func (s *story) firstSiteReturns(ctx context.Context) error {
	sites := s.mesh.Sites()
	s.say("%s comes back.", sites[0].Name)
	if err := s.mesh.Restart(ctx, sites[0].Name); err != nil {
		return err
	}
	err := until(ctx, "the mesh is settled and every slot runs once", func(ctx context.Context) error {
		return errors.Join(s.settled(ctx), s.onceEach(ctx, sites[0], "shop"))
	})
	if err != nil {
		return err
	}
	s.note("it knows the app, and nothing runs twice")
	return s.hansa(ctx, sites[0], "peers")
}

func (s *story) cutSecondSite(ctx context.Context) error {
	sites := s.mesh.Sites()
	s.say("Cut %s off. Both sides go on: a deploy on each side of the cut.", sites[1].Name)
	if err := s.mesh.Cut(ctx, sites[1].Name); err != nil {
		return err
	}
	err := until(ctx, "both sides know of the cut", func(ctx context.Context) error {
		return errors.Join(s.alive(ctx, sites[1], 1), s.alive(ctx, sites[0], 2), s.alive(ctx, sites[2], 2))
	})
	if err != nil {
		return err
	}
	for i, name := range []string{"island", "mainland"} {
		at := sites[1+i]
		manifest, remove, err := s.variant(name)
		if err != nil {
			return err
		}
		defer remove()
		if err := s.hansa(ctx, at, "deploy", manifest); err != nil {
			return err
		}
		s.wanted[name] = s.wanted["shop"]
		err = until(ctx, name+" runs on its side", func(ctx context.Context) error { return s.onceEach(ctx, at, name) })
		if err != nil {
			return err
		}
	}
	for _, site := range sites {
		if _, err := s.call(ctx, site); err != nil {
			return fmt.Errorf("during the cut, at %s: %w", site.Name, err)
		}
	}
	s.note("and the shop's function answers at all three, %s included", sites[1].Name)
	return errors.Join(s.hansa(ctx, sites[1], "apps"), s.hansa(ctx, sites[2], "apps"))
}

func (s *story) heal(ctx context.Context) error {
	sites := s.mesh.Sites()
	s.say("The link heals.")
	begin := time.Now()
	if err := s.mesh.Heal(ctx); err != nil {
		return err
	}
	err := until(ctx, "every app is known at every peer, every slot runs once and the mesh is settled", func(ctx context.Context) error {
		errs := []error{s.settled(ctx)}
		for _, site := range sites {
			for app := range s.wanted {
				errs = append(errs, s.onceEach(ctx, site, app))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	s.figures.Heal = time.Since(begin)
	s.note("%.1f s later all three peers know all three apps, no slot runs twice, no intent was lost", s.figures.Heal.Seconds())
	return errors.Join(s.hansa(ctx, sites[0], "apps"), s.hansa(ctx, sites[1], "ps"))
}

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Site is one site of the mesh: its name and the address of its peer's admin
// API.
type Site struct {
	Name string
	API  string // "127.0.0.1:7601"
}

// Mesh is the mesh that the story happens to. Faults are its business.
type Mesh interface {
	Sites() []Site
	Kill(ctx context.Context, site string) error // the site's work too
	Restart(ctx context.Context, site string) error
	Cut(ctx context.Context, site string) error
	Heal(ctx context.Context) error
}

// Options says what to tell and with what.
type Options struct {
	Hansa    string    // the hansa binary
	Manifest string    // examples/shop/shop.yaml
	Out      io.Writer // the narration
}

// Figures are what the story measured.
type Figures struct {
	Deploy   time.Duration // from submit to all slots running
	Failover time.Duration // from the kill to all slots running elsewhere
	Heal     time.Duration // from the heal to settled at every peer
	Calls    int           // of the function, all answered
}

// waitMax bounds each wait of the story; none takes nearly as long.
const waitMax = 2 * time.Minute

// pollEvery is how often a condition is looked at.
const pollEvery = 100 * time.Millisecond

// Run tells the whole story and returns an error at the first thing that is
// not as it must be.
func Run(ctx context.Context, mesh Mesh, o Options) (Figures, error) {
	s := &story{mesh: mesh, Options: o, http: &http.Client{Timeout: 30 * time.Second}}
	if len(mesh.Sites()) != 3 {
		return s.figures, fmt.Errorf("scenario: the mesh has %d sites, the story is about 3", len(mesh.Sites()))
	}
	for _, chapter := range []func(context.Context) error{
		s.peersKnowEachOther, s.deploy, s.callEverywhere, s.loseFirstSite,
		s.firstSiteReturns, s.cutSecondSite, s.heal,
	} {
		if err := chapter(ctx); err != nil {
			return s.figures, err
		}
	}
	return s.figures, nil
}

type story struct {
	Options
	mesh    Mesh
	http    *http.Client
	step    int
	figures Figures
	wanted  map[string]int // slots by app
}

// say begins a chapter.
func (s *story) say(format string, args ...any) {
	s.step++
	fmt.Fprintf(s.Out, "\n\033[1m%d. %s\033[0m\n", s.step, fmt.Sprintf(format, args...))
}

func (s *story) note(format string, args ...any) {
	fmt.Fprintf(s.Out, "   %s\n", fmt.Sprintf(format, args...))
}

// hansa runs the command as a person would, and shows both.
func (s *story) hansa(ctx context.Context, site Site, args ...string) error {
	fmt.Fprintf(s.Out, "   $ hansa %s        # at %s\n", strings.Join(args, " "), site.Name)
	cmd := exec.CommandContext(ctx, s.Hansa, args...)
	cmd.Env = append(os.Environ(), "HANSA_API="+site.API)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		fmt.Fprintf(s.Out, "     %s\n", strings.TrimRight(line, "\n"))
	}
	if err != nil {
		return fmt.Errorf("hansa %s at %s: %w\n%s", strings.Join(args, " "), site.Name, err, out)
	}
	return nil
}

// get reads one JSON document of a peer's API.
func (s *story) get(ctx context.Context, site Site, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+site.API+path, nil)
	if err != nil {
		return err
	}
	response, err := s.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s at %s: %s: %s", path, site.Name, response.Status, body)
	}
	return json.Unmarshal(body, into)
}

// until waits for a condition; what is the last thing that it lacked.
func until(ctx context.Context, what string, condition func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain until %s: %w", what, err)
		case <-tick.C:
		}
	}
}

type allocation struct {
	ID        string `json:"id"`
	App       string `json:"app"`
	Component string `json:"component"`
	Slot      int    `json:"slot"`
	Site      string `json:"site"`
	State     string `json:"state"`
}

// running are the running allocations of an app as one peer sees them.
func (s *story) running(ctx context.Context, at Site, app string) ([]allocation, error) {
	var list struct {
		Items []allocation `json:"items"`
	}
	if err := s.get(ctx, at, "/v1/allocations?limit=1000&app="+app, &list); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(a allocation) bool { return a.State != "running" }), nil
}

// onceEach says whether every slot of an app runs exactly once on the allowed
// sites, as seen from one peer.
func (s *story) onceEach(ctx context.Context, at Site, app string, allowed ...string) error {
	list, err := s.running(ctx, at, app)
	if err != nil {
		return err
	}
	seen := map[string]string{}
	for _, a := range list {
		slot := fmt.Sprintf("%s/%s[%d]", app, a.Component, a.Slot)
		if other, twice := seen[slot]; twice {
			return fmt.Errorf("%s runs at %s and at %s", slot, other, a.Site)
		}
		if len(allowed) > 0 && !slices.Contains(allowed, a.Site) {
			continue // an old row of a site that is gone
		}
		seen[slot] = a.Site
	}
	if len(seen) != s.wanted[app] {
		return fmt.Errorf("%d of %d slots of %s run", len(seen), s.wanted[app], app)
	}
	return nil
}

// settled says whether every peer calls the mesh settled.
func (s *story) settled(ctx context.Context) error {
	for _, site := range s.mesh.Sites() {
		var mesh struct {
			Settled bool     `json:"settled"`
			Open    []string `json:"open"`
		}
		if err := s.get(ctx, site, "/v1/mesh", &mesh); err != nil {
			return err
		}
		if !mesh.Settled {
			return fmt.Errorf("%s does not call the mesh settled: %s", site.Name, strings.Join(mesh.Open, "; "))
		}
	}
	return nil
}

// call calls the shop's function at one peer.
func (s *story) call(ctx context.Context, at Site) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.API+"/v1/functions/default/shop/api/", nil)
	if err != nil {
		return "", err
	}
	response, err := s.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the function answered %s: %s", response.Status, body)
	}
	s.figures.Calls++
	return string(body), nil
}

// variant writes a second app, made from the shop's manifest under another
// name, next to it, since the manifest names its files relative to itself.
func (s *story) variant(name string) (path string, remove func(), err error) {
	data, err := os.ReadFile(s.Manifest)
	if err != nil {
		return "", nil, err
	}
	text := strings.Replace(string(data), "app: shop", "app: "+name, 1)
	if text == string(data) {
		return "", nil, errors.New("the manifest has no line \"app: shop\"")
	}
	file, err := os.CreateTemp(filepath.Dir(s.Manifest), name+"-*.yaml")
	if err != nil {
		return "", nil, err
	}
	_, err = file.WriteString(text)
	return file.Name(), func() { os.Remove(file.Name()) }, errors.Join(err, file.Close())
}

package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// faultMax is how long a fault lasts at most, and restMax the pause after.
	faultMax = 12 * time.Second
	restMax  = 5 * time.Second
	// flapEvery is how long each state of a flapping link lasts.
	flapEvery = 700 * time.Millisecond
	// askMax is how long a daemon may take to say what it keeps.
	askMax = 5 * time.Second
	// keepersLeast is how many keepers an app has that loses one and goes on.
	keepersLeast = 3
	// appsMax bounds the apps that are looked at.
	appsMax = 1000
)

func (r *run) rng(hand uint64) *rand.Rand { return rand.New(rand.NewPCG(r.Seed, hand)) }

func (r *run) fault(kind string, format string, args ...any) {
	r.say("%s: "+format, append([]any{kind}, args...)...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[kind]++
}

// names are the sites, in a random order.
func (r *run) names(rng *rand.Rand) []string {
	var names []string
	for _, s := range r.Mesh.Sites() {
		names = append(names, s.Name)
	}
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

func lasts(rng *rand.Rand) time.Duration {
	return time.Second + time.Duration(rng.Int64N(int64(faultMax)))
}

// harmLinks cuts and mends.
func (r *run) harmLinks(ctx context.Context) error {
	rng, net := r.rng(1001), r.Mesh.Links()
	for ctx.Err() == nil {
		names, d := r.names(rng), lasts(rng)
		half := names[:len(names)/2]
		switch rng.IntN(4) {
		case 0:
			r.fault("site cut", "%s from all others for %v", names[0], d)
			net.Isolate(names[0])
			pause(ctx, d)
		case 1:
			r.fault("halves cut", "%v from the others for %v", half, d)
			net.Isolate(half...)
			pause(ctx, d)
		case 2:
			r.fault("one-way cut", "nobody hears %s for %v", names[0], d)
			net.Mute(names[0])
			pause(ctx, d)
		case 3:
			r.fault("flapping", "%v and the others for %v", half, d)
			for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
				net.Isolate(half...)
				pause(ctx, flapEvery)
				net.Heal()
				pause(ctx, flapEvery)
			}
		}
		net.Heal()
		pause(ctx, time.Duration(rng.Int64N(int64(restMax))))
	}
	return nil
}

// harmPeers kills daemons and spoils their disks, one at a time, and brings
// each back before the next.
//
// Only one site's disk is ever emptied, drawn at the start, again and again: its
// peer is no keeper any more of what it kept, and who should be in its place is
// for the mesh, which must be given the time; two lost disks in one breath are
// more than an acknowledgement by two promises.
func (r *run) harmPeers(ctx context.Context) error {
	rng := r.rng(1002)
	doomed := r.names(rng)[0]
	kinds := []func(site string) (kind string, mend func() error, err error){r.killDaemon, r.killAll, r.powerFailure, r.emptyDisk}
	if r.Disks {
		kinds = append(kinds, r.fillDisk)
	}
	for ctx.Err() == nil {
		site, d, n := r.names(rng)[0], lasts(rng), rng.IntN(len(kinds))
		if n == 3 {
			site = doomed
		}
		kind, mend, err := kinds[n](site)
		if err != nil {
			return err
		}
		r.fault(kind, "%s for %v", site, d)
		pause(ctx, d)
		if err := mend(); err != nil {
			return err
		}
		r.say("%s is back", site)
		pause(ctx, time.Duration(rng.Int64N(int64(restMax))))
	}
	return nil
}

// back restarts a site's daemon, though the run may be over meanwhile.
func (r *run) back(site string) func() error {
	return func() error { return r.Mesh.Restart(context.Background(), site) }
}

func (r *run) killDaemon(site string) (string, func() error, error) {
	return "daemon killed", r.back(site), r.Mesh.KillDaemon(site)
}

func (r *run) killAll(site string) (string, func() error, error) {
	return "daemon and supervisors killed", r.back(site), errors.Join(r.Mesh.KillDaemon(site), r.Mesh.KillSupervisors(site))
}

func (r *run) powerFailure(site string) (string, func() error, error) {
	return "power failure", r.back(site), r.Mesh.Kill(context.Background(), site)
}

// emptyDisk is a power failure after which the disk is empty, unless an app
// would be left without a majority of its keepers: that stops until a person
// decides, which is no harm to be survived.
func (r *run) emptyDisk(site string) (string, func() error, error) {
	if few, err := r.keepsWithFew(site); err != nil || few {
		return r.powerFailure(site)
	}
	err := r.Mesh.Kill(context.Background(), site)
	if err == nil {
		err = r.Mesh.Wipe(site)
	}
	r.book.Wiped(r.ids[site], time.Now())
	return "disk emptied", r.back(site), err
}

// keepsWithFew says whether a peer keeps an app that has too few keepers to lose
// one, as that peer itself knows.
func (r *run) keepsWithFew(site string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askMax)
	defer cancel()
	client, err := r.Mesh.Client(site)
	if err != nil {
		return false, err
	}
	apps, err := client.Apps(ctx, api.AppQuery{Page: api.Page{Limit: appsMax}})
	if err != nil {
		return false, err
	}
	for _, row := range apps.Items {
		app, err := client.App(ctx, placement.AppKey{Namespace: row.Namespace, App: row.App})
		if api.IsKind(err, api.KindNotFound) {
			continue // forgotten meanwhile
		}
		if err != nil {
			return false, err
		}
		keeps := slices.ContainsFunc(app.Keepers, func(p api.PeerRef) bool { return p.ID == r.ids[site] })
		if keeps && len(app.Keepers) < keepersLeast {
			return true, nil
		}
	}
	return false, nil
}

func (r *run) fillDisk(site string) (string, func() error, error) {
	return "disk full", func() error { return r.Mesh.Free(site) }, r.Mesh.Fill(site)
}

// identify learns the peers' ids, which the book knows them by.
func (r *run) identify(ctx context.Context) error {
	r.ids = map[string]string{}
	for _, s := range r.Mesh.Sites() {
		client, err := r.Mesh.Client(s.Name)
		if err != nil {
			return err
		}
		mesh, err := client.Mesh(ctx)
		if err != nil {
			return err
		}
		r.ids[s.Name] = mesh.Self.ID
	}
	return nil
}

package apitest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// all is every allocation; b.mu is held.
func (b *Backend) all() []api.Allocation {
	var all []api.Allocation
	for key, a := range b.apps {
		for name, c := range a.spec.Components {
			for i, r := range refs {
				for _, slot := range places(c, i) {
					all = append(all, api.Allocation{
						ID:        allocationID(key, name, r, slot, a.replace),
						Namespace: key.Namespace, App: key.App, Component: name, Slot: slot, Site: r.Site, Peer: r.ID, PeerName: r.Name, Host: r.Name,
						Kind: c.Kind(), Driver: c.Driver(), State: "running", Since: a.updated, Ports: map[string]string{}, Revision: a.version.String(),
						UID: a.uid, Stale: i == 2, AsOf: b.now().Add(-time.Duration(i) * time.Minute)})
					{
						a := &all[len(all)-1]
						a.Restarts = b.restarts[a.ID]
						a.CreatedAt, a.StartedAt = a.Since, a.Since.Add(time.Duration(a.Restarts)*time.Second)
						a.Usage = &api.WorkUsage{CPU: 125, Memory: 24 << 20, Tasks: 3, At: b.now()}
						if a.Restarts > 0 {
							a.LastExit = &api.Exit{Reason: "restarted by a person", At: a.Since}
						}
					}
					if why := b.Crashing[key.App]; why != "" {
						all[len(all)-1].State, all[len(all)-1].Reason = "pending", why
					}
				}
			}
		}
	}
	return all
}

func allocationID(key placement.AppKey, component string, r api.PeerRef, slot, replaced int) string {
	sum := sha256.Sum256([]byte(key.String() + "/" + component))
	id := placement.AllocationID{Slot: placement.Slot(slot), Claim: placement.ClaimID{
		Ask:   placement.AskID{Asker: placement.PeerID(hex.EncodeToString(sum[:8])), Incarnation: 1, Counter: uint64(replaced + 1)},
		Owner: placement.PeerRef{Peer: placement.PeerID(r.ID), Incarnation: 1}}}
	return id.String()
}

// Allocations are those that q selects.
func (b *Backend) Allocations(_ context.Context, q api.AllocationQuery) (api.Listing[api.Allocation], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := slices.DeleteFunc(b.all(), func(a api.Allocation) bool { return !q.Matches(a) })
	return api.NewListing(found, api.AllocationKey, q.Page, b.asOf()), nil
}

// Allocation is one.
func (b *Backend) Allocation(_ context.Context, id string) (api.Allocation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.all() {
		if a.ID == id {
			return a, nil
		}
	}
	return api.Allocation{}, fmt.Errorf("%w: there is no allocation %s", placement.ErrNotFound, id)
}

// Restart counts a restart of an allocation.
func (b *Backend) Restart(ctx context.Context, id string) (api.Allocation, error) {
	a, err := b.Allocation(ctx, id)
	if err != nil {
		return a, err
	}
	if a.Stale {
		return a, fmt.Errorf("restart %s: %w: %s", id, api.ErrUnreachable, a.PeerName)
	}
	b.mu.Lock()
	b.restarts[id]++
	b.mu.Unlock()
	return b.Allocation(ctx, id)
}

// Log adds a line, as "TIME STREAM TAG TEXT", to a slot's log.
func (b *Backend) Log(key placement.AppKey, slot int, line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		panic(err)
	}
	a.logs[slot] = append(a.logs[slot], line)
	close(b.changed)
	b.changed = make(chan struct{})
}

// Replace puts others in the place of an app's allocations, as a roll-out does:
// their logs are empty, and those of the replaced end.
func (b *Backend) Replace(key placement.AppKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		panic(err)
	}
	a.replace++
	a.logs = map[int][]string{}
	close(b.changed)
	b.changed = make(chan struct{})
}

// Logs reads a slot's lines; following ends with ctx, or when the allocation does.
func (b *Backend) Logs(ctx context.Context, id string, o api.LogOptions) (io.ReadCloser, error) {
	a, err := b.Allocation(ctx, id)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	key := placement.AppKey{Namespace: a.Namespace, App: a.App}
	lines, changed := b.lines(key, a.Slot)
	next := 0
	if o.Tail > 0 {
		next = max(0, len(lines)-o.Tail)
	}
	go func() {
		for {
			for ; next < len(lines); next++ {
				if at := api.ParseLogLine(lines[next]).Time; !at.IsZero() && at.Before(o.Since) {
					continue
				}
				if _, err := io.WriteString(w, lines[next]+"\n"); err != nil {
					return
				}
			}
			if !o.Follow {
				_ = w.Close()
				return
			}
			select {
			case <-ctx.Done():
				_ = w.CloseWithError(ctx.Err())
				return
			case <-changed:
			}
			if _, err := b.Allocation(ctx, id); err != nil {
				_ = w.Close()
				return
			}
			lines, changed = b.lines(key, a.Slot)
		}
	}()
	return r, nil
}

func (b *Backend) lines(key placement.AppKey, slot int) ([]string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.apps[key]; a != nil {
		return slices.Clone(a.logs[slot]), b.changed
	}
	return nil, b.changed
}

// Invocations are the headers that functions saw.
func (b *Backend) Invocations() []http.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.seen)
}

// Invoke echoes the request as JSON; the path /fail answers 500, and /panic
// panics.
func (b *Backend) Invoke(w http.ResponseWriter, r *http.Request, key placement.AppKey, component, path string) {
	b.mu.Lock()
	a, err := b.lookup(key)
	b.seen = append(b.seen, r.Header.Clone())
	b.mu.Unlock()
	if err == nil && a.spec.Components[component].Function == nil {
		err = fmt.Errorf("%w: %s has no function %s", placement.ErrNotFound, key, component)
	}
	if err != nil {
		api.WriteProblem(w, r, err)
		return
	}
	switch path {
	case "/panic":
		panic("the function's backend panics")
	case "/fail":
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		api.WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Content-Security-Policy", "default-src *")
	w.Header().Set("Set-Cookie", "a=b")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"method": r.Method, "path": path, "query": r.URL.RawQuery, "body": string(body)})
}

// HasArtifact says how large an artifact is.
func (b *Backend) HasArtifact(_ context.Context, digest string) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.artifacts[digest]
	if !ok {
		return 0, fmt.Errorf("%w: artifact %s is not here", placement.ErrNotFound, digest)
	}
	return int64(len(data)), nil
}

// PutArtifact keeps an artifact.
func (b *Backend) PutArtifact(ctx context.Context, digest string, _ int64, r io.Reader) (bool, error) {
	if _, err := b.HasArtifact(ctx, digest); err == nil {
		return false, nil
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return false, fmt.Errorf("put artifact %s: %w", digest, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	used := int64(len(data))
	for _, other := range b.artifacts {
		used += int64(len(other))
	}
	if b.ArtifactSpace > 0 && used > b.ArtifactSpace {
		return false, fmt.Errorf("%w: artifact %s of %d bytes", placement.ErrFull, digest, len(data))
	}
	b.artifacts[digest] = data
	return true, nil
}

// ArtifactDigests are the digests that are kept, sorted.
func (b *Backend) ArtifactDigests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.artifacts))
}

package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
)

// BenchmarkClaims is durable grants by one ledger: an ask comes in, the core
// decides, the claim is on disk (with its sync), the offer leaves. The network
// is left out: see transport's BenchmarkCall.
func BenchmarkClaims(b *testing.B) {
	for _, askers := range []int{1, 64} {
		b.Run(fmt.Sprintf("askers=%d", askers), func(b *testing.B) {
			var syncs int64
			b.StopTimer()
			for left := b.N; left > 0; left -= claimsAtOnce {
				syncs += benchmarkClaims(b, askers, min(left, claimsAtOnce))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "claims/s")
			b.ReportMetric(float64(syncs)/float64(b.N), "syncs/claim")
		})
	}
}

// claimsAtOnce is what one ledger is filled with, below its limit.
const claimsAtOnce = 8192

func benchmarkClaims(b *testing.B, askers, claims int) (syncs int64) {
	disk, err := store.Open(store.Config{Dir: b.TempDir(), Mesh: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer disk.Close()
	self := placement.PeerRef{Peer: "self", Incarnation: placement.Incarnation(disk.Incarnation())}
	core := placement.New(placement.Config{Self: self, Name: "self", Site: "here", Seed: 1})

	var mu sync.Mutex
	waiting := map[placement.AskID]chan struct{}{}
	var l *loop
	l = newLoop(core, machineClock(), func(effect placement.Effect) {
		switch e := effect.(type) {
		case placement.Persist:
			writes := make([]store.Write, len(e.Writes))
			for i, w := range e.Writes {
				writes[i] = store.Write{Table: corePrefix + w.Table, Key: w.Key, Value: w.Value}
			}
			if err := disk.CommitAsync(writes, func(err error) {
				if err != nil {
					b.Error(err)
				}
				l.post(placement.Persisted{Token: e.Token})
			}); err != nil {
				b.Error(err)
			}
		case placement.Send:
			in, err := placement.Inspect(e.Body)
			if err != nil || in.Kind != "offer" {
				return
			}
			if in.Granted.IsEmpty() {
				b.Errorf("refused: %s", in.Detail())
			}
			mu.Lock()
			close(waiting[in.Ask])
			delete(waiting, in.Ask)
			mu.Unlock()
		}
	}, func(*placement.Peer) {})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	go l.run(ctx)
	l.post(placement.HostChanged{Host: placement.Host{
		ID: "host", Arch: "amd64", Drivers: []string{placement.DriverProcess},
		Capacity: placement.Resources{CPU: 1 << 50, Memory: 1 << 60, Disk: 1 << 60},
	}})
	l.post(placement.WorkListed{Driver: placement.DriverProcess})

	app := serverApp("bench", 1)
	ask := func(id placement.AskID) []byte { // for the one slot of an app of its own
		uid := placement.UID(fmt.Sprintf("app-%d", id.Counter))
		intent := placement.Intent{UID: uid, Key: app.Key(), App: app, Version: placement.Version{Millis: 1, Peer: "steward"}, MinSchema: placement.Schema}
		signed := placement.Signed{Body: placement.Encode(intent), By: "steward"}
		return placement.NewAsk(id, signed, uid, placement.Term{Number: 1, Peer: "steward"}, "web", placement.FirstSlots(1), id.Counter-min(id.Counter, 256))
	}
	var next atomic.Uint64
	work := make(chan struct{})
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for range work {
				id := placement.AskID{Asker: "steward", Incarnation: 1, Counter: next.Add(1)}
				done := make(chan struct{})
				mu.Lock()
				waiting[id] = done
				mu.Unlock()
				l.post(placement.Receive{From: "steward", Body: ask(id)})
				<-done
			}
		})
	}
	b.StartTimer()
	for range claims {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	b.StopTimer()
	return disk.Stats().Syncs
}

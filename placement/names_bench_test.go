package placement

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"
)

// BenchmarkNames is a peer whose mesh has 10,000 names of images, all of which it
// keeps: what it takes to start with them, in time and memory, and to take one
// push more. It looks often what is needed of files, of which something changes
// between two looks: for that much of the time (needs-us) nothing else happens, the
// rest (beside-ms) goes on beside. walk-x is how many times as long a look at
// everything takes (walk-ms).
func BenchmarkNames(b *testing.B) {
	const names = 10_000
	public, private, _ := ed25519.GenerateKey(nil)
	sign := func(v any) []byte {
		body := Encode(v)
		return Encode(Signed{Body: body, By: "b", Sig: ed25519.Sign(private, body)})
	}
	type row struct {
		table, key string
		value      []byte
	}
	var rows []row
	disk := map[string][]byte{}
	for n := range names {
		i, tree := pushed(fmt.Sprintf("team%d/service%d:v1.%d", n%50, n%1000, n/1000), "1")
		i.Digest = fmt.Sprintf("sha256:%064x", n)
		tree[0].Digest = i.Digest
		uid := UID(fmt.Sprintf("uid%d", n))
		in := Intent{UID: uid, Key: i.Key(), Version: Version{Millis: 1_800_000_000_000, Peer: "b"}, App: i.App(), Artifacts: tree, MinSchema: schemaRecorded}
		k := Keepers{UID: uid, Epoch: 1, Peers: []PeerRef{{"b", 1}, {"a", 1}, {"c", 1}}, Term: Term{1, "b"}}
		signed, list := sign(in), sign(k)
		rows = append(rows, row{TableIntents, i.Key().String(), signed}, row{TableKeepers, string(uid), list})
		var si, sk Signed
		if err := errors.Join(Decode(signed, &si), Decode(list, &sk)); err != nil {
			b.Fatal(err)
		}
		disk[string(uid)] = Encode(&keepRecord{UID: uid, Key: i.Key(), Intents: []Signed{si}, Keepers: sk, Term: k.Term})
	}
	verify := func(s Signed) error {
		if !ed25519.Verify(public, s.Body, s.Sig) {
			return errors.New("forged")
		}
		return nil
	}
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var needs Needs
	for b.Loop() {
		before, began := memory(), time.Now()
		p := New(Config{Self: PeerRef{"a", 1}, Name: "a", Site: "s", Seed: 1, Verify: verify})
		for uid, value := range disk {
			if err := p.Load(tableKeep, uid, value); err != nil {
				b.Fatal(err)
			}
		}
		for _, r := range rows {
			p.LoadTable(r.table, r.key, [][]byte{r.value})
		}
		now := &Now{Wall: time.UnixMilli(1_800_000_001_000)}
		drive(p, now, p.Begin(*now))
		start := time.Since(began)
		b.ReportMetric(float64(start.Milliseconds()), "start-ms")
		b.ReportMetric(float64(memory()-before)/names, "bytes/name")
		if len(p.Images()) != names {
			b.Fatal(len(p.Images()))
		}
		for _, id := range []PeerID{"b", "c"} {
			step(p, now, MemberChanged{Peer: id, Site: SiteID("s" + id), State: MemberAlive})
		}
		began = time.Now()
		const pushes = 200
		for n := range pushes {
			i, tree := pushed(fmt.Sprintf("new/one:%d", n), "1")
			step(p, now, Submit{Ticket: 1, App: i.App(), Artifacts: tree})
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/pushes, "us/push")
		began = time.Now()
		p.roles = true
		step(p, now, TimerFired{Key: wakeTimer})
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "round-ms")
		p.Needs()
		const looks = 20
		var look time.Duration
		for n := range looks {
			i, tree := pushed(fmt.Sprintf("new/one:%d", n), "2")
			step(p, now, Submit{Ticket: 1, App: i.App(), Artifacts: tree})
			began = time.Now()
			needs = p.Needs()
			look += time.Since(began)
		}
		b.ReportMetric(float64(look.Nanoseconds())/1000/looks, "needs-us")
		began = time.Now()
		walkNeeds(p)
		walk := time.Since(began)
		b.ReportMetric(float64(walk.Microseconds())/1000, "walk-ms")
		b.ReportMetric(float64(walk)*looks/float64(look), "walk-x")
		began = time.Now()
		refs := needs.References()
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "beside-ms")
		if len(refs) < names {
			b.Fatal(len(refs))
		}
		runtime.KeepAlive(p)
	}
}

package placement

import "testing"

// A book grants what fits of a host, says so, and frees it again.
func TestBook(t *testing.T) {
	b := NewBook(PeerRef{"p", 1}, "p", "s", map[string]string{"tier": "edge"}, Host{
		ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 1000, Memory: 1 << 30},
		GPUs: []Device{{ID: "g0", Model: "a"}, {ID: "g1", Model: "a"}},
	})
	if d := b.Digest(); d.Full != "" || d.Free.CPU != 1000 || d.Labels["tier"] != "edge" || len(d.GPUs) != 2 {
		t.Fatalf("at first %+v", d)
	}
	app := App{Name: "a", Components: map[string]Component{"c": {
		Server:    &Server{Process: &Process{Command: []string{"run"}}},
		Resources: Resources{CPU: 400, Memory: 1 << 20, GPU: GPU{Count: 1000}},
	}}}
	for round := range 300 { // whatever came and went before
		id, granted, why := b.Ask("u", app, "c", FirstSlots(3))
		if granted.Len() != 2 || why == "" {
			t.Fatalf("round %d: granted %s, %q", round, granted, why)
		}
		if d := b.Digest(); d.Free.CPU != 200 || d.GPUs[0].Free != 0 || d.GPUs[1].Free != 0 {
			t.Fatalf("round %d: %+v is left", round, d)
		}
		if _, granted, _ := b.Ask("v", app, "c", FirstSlots(1)); !granted.IsEmpty() {
			t.Fatalf("round %d: more than there is", round)
		}
		before := b.Digest().Sequence
		b.Free(id)
		b.Free(id)
		if d := b.Digest(); d.Free.CPU != 1000 || d.GPUs[0].Free != 1000 || d.Sequence <= before {
			t.Fatalf("round %d: freed, %+v", round, d)
		}
	}
	if n := len(b.peer.ledger.claims) + len(b.peer.ledger.owed) + len(b.peer.ledger.asker(askerKey{"p", 1}).refused); n > 1 {
		t.Errorf("%d entries of what is gone are kept", n)
	}
}

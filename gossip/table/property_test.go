package table

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world is some copies of a table, their disks, the rumours ever sent, and a
// model that knows which dots must be alive.
type world struct {
	names   []string
	tables  []*Table
	disks   []map[string][]byte
	incs    []uint64
	rumours [][]byte

	open []*conversation

	alive map[Dot]string // dot to its key: written, neither superseded nor removed
	dead  map[Dot]bool
}

func newWorld(n int) *world {
	w := &world{alive: map[Dot]string{}, dead: map[Dot]bool{}}
	for i := range n {
		name := fmt.Sprint("p", i)
		tab, err := New(Config{Name: "test", Self: name, Incarnation: 1})
		if err != nil {
			panic(err)
		}
		w.names, w.tables = append(w.names, name), append(w.tables, tab)
		w.disks, w.incs = append(w.disks, map[string][]byte{}), append(w.incs, 1)
	}
	return w
}

// persist makes a batch durable and tells the model.
func (w *world) persist(i int, b Batch) {
	for _, wr := range b.Writes {
		if w.disks[i][wr.Key] = wr.Value; wr.Value == nil {
			delete(w.disks[i], wr.Key)
		}
	}
	for _, raw := range b.Rumours {
		o, err := decodeOperation(raw, valueMaxDefault)
		if err != nil {
			panic(err)
		}
		w.rumours = append(w.rumours, raw)
		for _, s := range o.Supersedes {
			w.dead[s] = true
			delete(w.alive, s)
		}
		if !o.Removal && !w.dead[o.dot()] {
			w.alive[o.dot()] = o.Key
		}
	}
}

// load restarts a peer from its disk.
func (w *world) load(t *rapid.T, i int) {
	tab, err := New(Config{Name: "test", Self: w.names[i], Incarnation: w.incs[i]})
	if err != nil {
		t.Fatal(err)
	}
	if err := tab.Load(maps.All(w.disks[i])); err != nil {
		t.Fatal(err)
	}
	w.tables[i] = tab
	w.hangUp(i)
}

// sync carries at most so many frames between two peers.
func (w *world) sync(t *rapid.T, a, b, frames int) {
	sa, sb := w.tables[a].Initiate(), w.tables[b].Respond()
	speaker, listener, at := sa, sb, b
	for !sa.Done() || !sb.Done() {
		for f, ok := speaker.Next(); ok; f, ok = speaker.Next() {
			if frames--; frames < 0 {
				return
			}
			batch, err := listener.Step(f)
			if err != nil {
				t.Fatal(err)
			}
			w.persist(at, batch)
		}
		speaker, listener = listener, speaker
		at = a + b - at
	}
}

// conversation is an exchange between two peers that other things happen
// within.
type conversation struct {
	peers    [2]int
	sessions [2]*Session
	speaker  int
}

// carry moves one frame, and reports whether there is more to come.
func (w *world) carry(t *rapid.T, c *conversation) bool {
	f, ok := c.sessions[c.speaker].Next()
	if !ok {
		if c.sessions[0].Done() && c.sessions[1].Done() {
			return false
		}
		c.speaker = 1 - c.speaker
		return true
	}
	batch, err := c.sessions[1-c.speaker].Step(f)
	if err != nil {
		t.Fatal(err)
	}
	w.persist(c.peers[1-c.speaker], batch)
	return true
}

// hangUp ends the exchanges of a peer.
func (w *world) hangUp(i int) {
	w.open = slices.DeleteFunc(w.open, func(c *conversation) bool { return c.peers[0] == i || c.peers[1] == i })
}

// TestConvergence: whatever is written, lost, duplicated, reordered, cut short,
// restarted or emptied, exchanges make all copies equal, and what they hold is
// exactly what was written and neither superseded nor removed.
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.IntRange(2, 4).Draw(t, "peers"))
		peer := rapid.IntRange(0, len(w.names)-1)
		key := rapid.SampledFrom([]string{"a", "b", "c"})
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				i := peer.Draw(t, "peer")
				b, err := w.tables[i].Put(key.Draw(t, "key"), []byte{1})
				if err != nil {
					t.Fatal(err)
				}
				w.persist(i, b)
			},
			"putOverSome": func(t *rapid.T) {
				i, k := peer.Draw(t, "peer"), key.Draw(t, "key")
				over := dotsOf(w.tables[i].keys[k])
				over = over[:rapid.IntRange(0, len(over)).Draw(t, "over")]
				b, err := w.tables[i].PutOver(k, []byte{2}, over)
				if err != nil {
					t.Fatal(err)
				}
				w.persist(i, b)
			},
			"remove": func(t *rapid.T) {
				i := peer.Draw(t, "peer")
				b, _, err := w.tables[i].Remove(key.Draw(t, "key"))
				if err != nil {
					t.Fatal(err)
				}
				w.persist(i, b)
			},
			"undo": func(t *rapid.T) {
				i := peer.Draw(t, "peer")
				b, err := w.tables[i].Put(key.Draw(t, "key"), []byte{3})
				if err != nil {
					t.Fatal(err)
				}
				if rapid.Bool().Draw(t, "reached") { // the log, which said that it had not
					w.persist(i, Batch{Writes: b.Writes})
				}
				w.persist(i, Batch{Writes: w.tables[i].Undo(b)})
			},
			"deliver": func(t *rapid.T) {
				if len(w.rumours) == 0 {
					t.Skip()
				}
				i := peer.Draw(t, "peer")
				b, err := w.tables[i].Apply(rapid.SampledFrom(w.rumours).Draw(t, "rumour"))
				if err != nil {
					t.Fatal(err)
				}
				b.Rumours = nil // counted when they were made
				w.persist(i, b)
			},
			"sync": func(t *rapid.T) {
				a, b := peer.Draw(t, "from"), peer.Draw(t, "to")
				if a == b {
					t.Skip()
				}
				w.sync(t, a, b, rapid.SampledFrom([]int{1, 2, 3, 4, 5, 6, 99}).Draw(t, "frames"))
			},
			"call": func(t *rapid.T) {
				a, b := peer.Draw(t, "from"), peer.Draw(t, "to")
				if a == b || len(w.open) > 3 {
					t.Skip()
				}
				w.open = append(w.open, &conversation{peers: [2]int{a, b},
					sessions: [2]*Session{w.tables[a].Initiate(), w.tables[b].Respond()}})
			},
			"carry": func(t *rapid.T) {
				if len(w.open) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(w.open)-1).Draw(t, "conversation")
				for range rapid.IntRange(1, 4).Draw(t, "frames") {
					if !w.carry(t, w.open[i]) {
						w.open = slices.Delete(w.open, i, i+1)
						break
					}
				}
			},
			"restart": func(t *rapid.T) {
				i := peer.Draw(t, "peer")
				if rapid.Bool().Draw(t, "unsynced") { // a write that was neither durable nor sent
					if _, err := w.tables[i].Put("a", []byte{4}); err != nil {
						t.Fatal(err)
					}
				}
				w.load(t, i)
			},
			"empty": func(t *rapid.T) {
				// What only this peer had is gone with it: let another have it.
				i := peer.Draw(t, "peer")
				w.sync(t, i, (i+1)%len(w.names), allFrames)
				w.disks[i] = map[string][]byte{}
				w.incs[i]++
				w.load(t, i)
			},
			"": func(t *rapid.T) { w.checkCovered(t) },
		})
		w.settle(t)
	})
}

// settle syncs around the ring until nothing can be missing, and judges.
func (w *world) settle(t *rapid.T) {
	for range 2 {
		for i := range w.names {
			w.sync(t, i, (i+1)%len(w.names), allFrames)
		}
	}
	want := slices.SortedFunc(maps.Keys(w.alive), Dot.Compare)
	for i, tab := range w.tables {
		got := slices.SortedFunc(maps.Keys(tab.live), Dot.Compare)
		if !slices.Equal(got, want) {
			t.Fatalf("%s holds %v, want %v", w.names[i], got, want)
		}
		if tab.Hash() != w.tables[0].Hash() || !tab.context.Equal(w.tables[0].context) {
			t.Fatalf("%s and %s differ after settling", w.names[0], w.names[i])
		}
		hash := tab.Hash()
		w.load(t, i)
		if w.tables[i].Hash() != hash {
			t.Fatalf("%s differs after a restart", w.names[i])
		}
	}
}

func (w *world) checkCovered(t *rapid.T) {
	for i, tab := range w.tables {
		for d, r := range tab.live {
			if !tab.context.Covers(d) {
				t.Fatalf("%s holds %v without covering it", w.names[i], d)
			}
			if w.dead[d] {
				continue // not heard of yet
			}
			if w.alive[d] != r.Key {
				t.Fatalf("%s holds %v that nobody wrote", w.names[i], d)
			}
		}
	}
}

func TestContextAgainstASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (*Context, map[Dot]bool) {
			c, set := NewContext(), map[Dot]bool{}
			for _, n := range rapid.SliceOf(rapid.Uint64Range(1, 40)).Draw(t, label) {
				d := Dot{fmt.Sprint("p", n%2), n % 3 / 2, n/2 + 1}
				c.Add(d)
				set[d] = true
			}
			return c, set
		}
		a, setA := draw("a")
		b, setB := draw("b")
		m := a.Clone()
		m.Merge(b)
		n := b.Clone()
		n.Merge(a)
		if !m.Equal(n) || m.Hash() != n.Hash() {
			t.Fatal("merge is not commutative")
		}
		maps.Copy(setB, setA)
		for p := range 2 {
			for inc := range uint64(3) {
				for c := uint64(1); c < 25; c++ {
					if d := (Dot{fmt.Sprint("p", p), inc, c}); m.Covers(d) != setB[d] {
						t.Fatalf("covers %v: %v", d, m.Covers(d))
					}
				}
			}
		}
		raw, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		back := NewContext()
		if err := back.UnmarshalBinary(raw); err != nil || !back.Equal(m) || back.Hash() != m.Hash() {
			t.Fatalf("round trip: %v", err)
		}
		for d := range setA {
			m.without(d)
			if m.Covers(d) {
				t.Fatal("uncovered dot is covered")
			}
			m.Add(d)
		}
		if !m.Equal(back) || m.Hash() != back.Hash() {
			t.Fatal("without and add do not cancel out")
		}
	})
}

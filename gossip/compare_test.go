package gossip

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// digested is a mesh at rest whose peers know each other's digests.
func digested(m *mesh, n int) []*node {
	m.t.Helper()
	nodes := m.startMany(n, false)
	for i, n := range nodes {
		if err := n.SetDigest(fmt.Append(nil, i), nil); err != nil {
			m.t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Minute) // memberlist compares all, too
	return nodes
}

func classOf(at, of *node) string {
	d, _ := at.Digest(of.id)
	return string(d.Class)
}

// TestLostDigestsAreFound: a peer that nobody told of a digest has it soon, at rest.
func TestLostDigestsAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 100*time.Millisecond, 0.01)
		nodes := digested(m, 12)
		keep := func(at, of *node) (restore func()) {
			at.mu.Lock()
			defer at.mu.Unlock()
			old := at.peers[of.id].digest
			return func() {
				at.mu.Lock()
				defer at.mu.Unlock()
				at.peers[of.id].digest = old
			}
		}
		for range 5 {
			nodes[3].mu.Lock()
			nodes[3].peers[nodes[7].id].digest = digestState{}
			nodes[3].mu.Unlock()
			m.eventually(12*time.Second, "the one that was missed is there", func() bool {
				return classOf(nodes[3], nodes[7]) == "7"
			})
		}
		forget := keep(nodes[4], nodes[8])
		if err := nodes[8].SetDigest([]byte("new"), nil); err != nil {
			t.Fatal(err)
		}
		m.eventually(12*time.Second, "the new one is everywhere", func() bool {
			for _, n := range nodes {
				if classOf(n, nodes[8]) != "new" {
					return false
				}
			}
			return true
		})
		time.Sleep(10 * time.Second)
		forget()
		if class := classOf(nodes[4], nodes[8]); class != "8" {
			t.Fatalf("it still has %q", class)
		}
		m.eventually(12*time.Second, "the old one is replaced", func() bool { return classOf(nodes[4], nodes[8]) == "new" })
	})
}

// TestComparingEnds: where comparing helps nothing it comes seldom, and not at all
// between those that have the same.
func TestComparingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 100*time.Millisecond, 0)
		nodes := digested(m, 12)
		liar, honest := nodes[0], nodes[1:]
		joins := func(n *node) uint64 { return n.Stats().Joins }
		before := joins(honest[3])
		time.Sleep(time.Minute)
		if n := joins(honest[3]) - before; n > 0 {
			t.Errorf("at rest it compared %d times", n)
		}
		liar.mu.Lock()
		liar.own.message = append([]byte(nil), liar.own.message...)
		liar.own.message[41] ^= 1 // so its sum is another one than all others make of it
		liar.mu.Unlock()
		lied, heard := joins(liar), joins(honest[3])
		time.Sleep(10 * time.Minute)
		if n := joins(liar) - lied; n < 2 || n > 12 {
			t.Errorf("who differs from all compared %d times in ten minutes", n)
		}
		if n := joins(honest[3]) - heard; n < 1 || n > 120 {
			t.Errorf("who differs from one compared %d times in ten minutes", n)
		}
	})
}

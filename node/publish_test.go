package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

// heldLog is a log whose writes wait until they are let go.
type heldLog struct{ let chan struct{} }

func (heldLog) Load(func(string, []byte) error) error { return nil }
func (l heldLog) Apply(context.Context, []table.Write) error {
	<-l.let
	return nil
}

// What the core published counts for it at once: it is not shown the state
// before, however long the disk takes, and is told once more when all is written.
func TestPublishedIsSeenBeforeItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := heldLog{make(chan struct{}, 16)}
		replica, err := table.Open(table.ReplicaConfig{Table: table.Config{Name: "t", Self: "me", Incarnation: 1}, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		var work sync.WaitGroup
		told := 0
		self := placement.PeerRef{Peer: "me", Incarnation: 1}
		p := newPublisher(&work, map[string]*table.Replica{"t": replica}, self, func(recordKey) { told++ }, slog.New(slog.DiscardHandler))
		p.ctx = t.Context()
		k := recordKey{"t", "k"}
		want := func(want string) {
			t.Helper()
			values, _ := p.values(k)
			if got := fmt.Sprintf("%s", values); got != want {
				t.Fatalf("the key holds %s, want %s", got, want)
			}
		}
		want("[]")
		p.publish(k, table.Wanted{Value: []byte("removed")})
		want("[removed]")
		log.let <- struct{}{}
		synctest.Wait()
		if told != 1 {
			t.Fatalf("told %d times that it is written, want once", told)
		}
		want("[removed]")
		p.publish(k, table.Wanted{Value: []byte("new")})
		want("[new]") // while the table has the other still
		synctest.Wait()
		p.publish(k, table.Wanted{Value: []byte("newer"), Beside: [][]byte{[]byte("new")}})
		want("[new newer]")
		p.publish(k, table.Wanted{Beside: [][]byte{[]byte("new")}})
		want("[new]")
		log.let <- struct{}{}
		log.let <- struct{}{}
		synctest.Wait()
		work.Wait()
		want("[new]")
		if told != 2 {
			t.Errorf("told %d times, want twice", told)
		}
		p.publish(k, table.Wanted{Value: []byte("last")})
		log.let <- struct{}{}
		synctest.Wait()
		if want("[last]"); told != 2 {
			t.Errorf("told again of what nobody was shown before it was written")
		}
		// Those that are to stand beside each other are all written, also when they
		// waited together; what is wanted no more is not.
		p.publish(k, table.Wanted{Value: []byte("a")})
		synctest.Wait()
		p.publish(k, table.Wanted{Value: []byte("b"), Beside: [][]byte{[]byte("a")}})
		p.publish(k, table.Wanted{Value: []byte("x"), Beside: [][]byte{[]byte("a")}})
		p.publish(k, table.Wanted{Value: []byte("c"), Beside: [][]byte{[]byte("a"), []byte("x")}})
		want("[a x c]")
		for range 3 {
			log.let <- struct{}{}
		}
		synctest.Wait()
		work.Wait()
		want("[a x c]")
	})
}

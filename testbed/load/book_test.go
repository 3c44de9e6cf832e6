package load_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/testbed/load"
)

// at is a moment of the story that a test tells.
func at(second int) time.Time { return time.Date(2000, 1, 1, 0, 0, second, 0, time.UTC) }

// put is an edit that two of three keepers had on disk.
func put(revision string, replicas, begin, end int) load.Op {
	return load.Op{Name: "shop", Replicas: replicas, Begin: at(begin), End: at(end), Outcome: load.Acked, Attempts: 1,
		Revision: revision, Copies: 2, Quorum: true, At: []string{"p1", "p2"}}
}

// alone makes it one that only p1 had.
func alone(o load.Op) load.Op {
	o.Copies, o.Quorum, o.At = 1, false, []string{"p1"}
	return o
}

func removal(o load.Op) load.Op {
	o.Removal, o.Replicas = true, 0
	return o
}

func unanswered(o load.Op) load.Op {
	o.Outcome, o.End, o.Revision = load.Unknown, time.Time{}, ""
	return o
}

func TestBook(t *testing.T) {
	one := func(revision string, replicas int) []load.Side {
		return []load.Side{{Revision: revision, Replicas: replicas}}
	}
	for _, c := range []struct {
		name  string
		ops   []load.Op
		wiped bool // the disk of p1, after all of it
		sides []load.Side
		want  string // part of the error; "" for none
	}{
		{name: "the last of two stands", ops: []load.Op{put("a", 1, 0, 1), put("b", 2, 2, 3)}, sides: one("b", 2)},
		{name: "the first of two stands", ops: []load.Op{put("a", 1, 0, 1), put("b", 2, 2, 3)}, sides: one("a", 1), want: "lost: shop ×2"},
		{name: "either of two at once stands", ops: []load.Op{put("a", 1, 0, 3), put("b", 2, 2, 4)}, sides: one("a", 1)},
		{name: "nothing stands", ops: []load.Op{put("a", 1, 0, 1)}, want: "lost: shop ×1"},
		{name: "it was removed", ops: []load.Op{put("a", 1, 0, 1), removal(put("b", 0, 2, 3))}},
		{name: "removed before it was made", ops: []load.Op{removal(put("b", 0, 0, 1)), put("a", 1, 2, 3)}, want: "lost"},
		{name: "it may have been removed", ops: []load.Op{put("a", 1, 0, 1), unanswered(removal(put("", 0, 2, 3)))}},
		{name: "it came back", ops: []load.Op{put("a", 1, 0, 1), removal(put("b", 0, 2, 3))}, sides: one("a", 1), want: "lost: shop removed"},
		{name: "an edit on the smaller side beats a removal", ops: []load.Op{alone(put("a", 1, 0, 1)), removal(put("b", 0, 2, 3))}, sides: one("a", 1)},
		{name: "a removal on the smaller side yields", ops: []load.Op{put("a", 1, 0, 1), alone(removal(put("b", 0, 2, 3)))}, sides: one("a", 1)},
		{name: "what the smaller side accepted is shown", ops: []load.Op{alone(put("a", 1, 0, 1)), put("b", 2, 2, 3)}, sides: append(one("a", 1), one("b", 2)...)},
		{name: "what the smaller side accepted is lost", ops: []load.Op{put("a", 1, 0, 1), alone(put("b", 2, 2, 3))}, sides: one("a", 1), want: "lost: shop ×2"},
		{name: "with its only disk", wiped: true, ops: []load.Op{put("a", 1, 0, 1), alone(put("b", 2, 2, 3))}, sides: one("a", 1)},
		{name: "a disk is no excuse for what lay on two", wiped: true, ops: []load.Op{put("a", 1, 0, 1), put("b", 2, 2, 3)}, sides: one("a", 1), want: "lost"},
		{name: "an edit without an answer stands", ops: []load.Op{unanswered(put("", 5, 0, 1)), put("a", 1, 2, 3)}, sides: one("x", 5)},
		{name: "a version from nowhere", ops: []load.Op{unanswered(put("", 5, 0, 1))}, sides: one("x", 4), want: "nobody asked for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			book := load.NewBook()
			for _, o := range c.ops {
				book.Add(o)
			}
			if c.wiped {
				book.Wiped("p1", at(59))
			}
			err := book.Check("shop", c.sides)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

// execMesh is two peers, and the id of work that runs at the second.
func execMesh(t *testing.T) (*mesh, backend, string) {
	t.Helper()
	m := newMesh(t, 2, 40*time.Millisecond)
	b := backend{m.sites[0].node}
	if _, err := b.PutApp(t.Context(), api.PutRequest{App: serverApp("shop", 2)}); err != nil {
		t.Fatal(err)
	}
	m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 2, "s1", "s2") })
	list, err := b.Allocations(t.Context(), api.AllocationQuery{App: "shop", Page: api.Page{Limit: 10}})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list.Items {
		if a.Site == "s2" {
			return m, b, a.ID
		}
	}
	t.Fatalf("nothing runs at s2: %+v", list.Items)
	return nil, b, ""
}

// A command at another peer is as one here: its streams both ways, whatever their
// length, its terminal's sizes, its exit code.
func TestExecAtAnotherPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, id := execMesh(t)
		defer m.close()
		large := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB: more than any window holds
		for name, c := range map[string]struct {
			command   []string
			in        string
			code      int
			out, errs string
		}{
			"both streams": {[]string{"both"}, "", 3, "out\n", "err\n"},
			"its code":     {[]string{"exit", "41"}, "", 41, "", ""},
			"no input":     {[]string{"cat"}, "", 0, "", ""},
			"much":         {[]string{"cat"}, large, 0, large, ""},
			"no program":   {[]string{"/no/such"}, "", 127, "", ""},
		} {
			var out, errs bytes.Buffer
			code, err := b.Exec(t.Context(), id, api.Exec{Command: c.command, Stdin: strings.NewReader(c.in), Stdout: &out, Stderr: &errs})
			if err != nil || code != c.code || out.String() != c.out || errs.String() != c.errs {
				t.Errorf("%s: code %d, %v; %d bytes of output, want %d; %q on stderr", name, code, err, out.Len(), len(c.out), errs.String())
			}
		}

		in, typed := io.Pipe()
		defer typed.Close()
		sizes := make(chan api.TerminalSize)
		seen := &lines{}
		done := make(chan int, 1)
		go func() {
			code, err := b.Exec(t.Context(), id, api.Exec{Command: []string{"tty"}, TTY: true, Size: api.TerminalSize{Rows: 24, Cols: 80}, Resize: sizes, Stdin: in, Stdout: seen, Stderr: io.Discard})
			if err != nil {
				t.Errorf("with a terminal: %v", err)
			}
			done <- code
		}()
		m.until("its first size", time.Minute, func() error { return seen.have("size 24 80") })
		sizes <- api.TerminalSize{Rows: 50, Cols: 132}
		m.until("its next size", time.Minute, func() error { return seen.have("size 50 132") })
		if _, err := io.WriteString(typed, "quit\n"); err != nil {
			t.Fatal(err)
		}
		if code := <-done; code != 7 {
			t.Errorf("the terminal's command ended with code %d", code)
		}
	})
}

// lines is output that others look at while it is written.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) have(text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !strings.Contains(l.all.String(), text) {
		return errors.New("there is " + l.all.String())
	}
	return nil
}

// Who asked is gone, or who runs it: either way the command and its caller end,
// also when the command reads nothing of what is sent to it.
func TestExecEndsWithEitherPeer(t *testing.T) {
	for _, killed := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			m, b, id := execMesh(t)
			defer m.close()
			var inside atomic.Int32
			m.sites[1].world.Program("deaf", func(ctx context.Context, _ *fake.Proc) int {
				inside.Add(1)
				defer inside.Add(-1)
				<-ctx.Done()
				return 137
			})
			done := make(chan error, 1)
			go func() {
				in := strings.NewReader(strings.Repeat("x", 8<<20))
				_, err := b.Exec(t.Context(), id, api.Exec{Command: []string{"deaf"}, Stdin: in, Stdout: io.Discard, Stderr: io.Discard})
				done <- err
			}()
			runs := func(n int32) func() error {
				return func() error {
					if inside.Load() != n {
						return errors.New("it is otherwise")
					}
					return nil
				}
			}
			m.until("it runs", time.Minute, runs(1))
			m.kill(m.sites[killed], false)
			took := m.until("it ended", 2*time.Minute, runs(0))
			if err := <-done; err == nil {
				t.Error("it ended well")
			} else {
				t.Logf("ended after %v: %v", took, err)
			}
		})
	}
}

// What can't be, the peer that has the work says as the one that was asked does;
// and what is too much, neither runs.
func TestExecRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, id := execMesh(t)
		defer m.close()
		run := func(id string, x api.Exec) error {
			x.Stdout, x.Stderr = io.Discard, io.Discard
			_, err := b.Exec(t.Context(), id, x)
			return err
		}
		err := run(id, api.Exec{Console: true})
		if !errors.Is(err, placement.ErrInvalid) || err.Error() != "exec in "+id+": a goroutine has no console" {
			t.Errorf("a console where there is none: %v", err)
		}
		other := id[:strings.LastIndexByte(id, '.')] + ".77"
		if err := run(other, api.Exec{Command: []string{"run"}}); !errors.Is(err, placement.ErrNotFound) {
			t.Errorf("a slot that is not there: %v", err)
		}
		for _, bad := range []string{"", "x", "a-1-1-b-1.0", strings.Repeat("x", 600)} {
			if err := run(bad, api.Exec{Command: []string{"run"}}); err == nil {
				t.Errorf("%.20q was taken for an allocation", bad)
			}
		}

		// A peer that does not keep to the bounds is let go of.
		for name, frame := range map[string]any{
			"too long": execRequest{ID: id, Command: []string{strings.Repeat("x", execRequestMax)}},
			"no id":    execRequest{Command: []string{"run"}},
			"not one":  "x",
		} {
			s, err := m.sites[0].node.link.Open(t.Context(), m.sites[1].node.ID(), kindExec)
			if err != nil {
				t.Fatal(err)
			}
			_ = transport.WriteFrame(s, frame) // it may be let go of meanwhile
			var f execFrame
			if err := transport.ReadFrame(s, &f, execFrameMax); err == nil && f.Reason == "" {
				t.Errorf("%s: answered with %+v", name, f)
			}
			s.Cancel()
		}

		var now, most atomic.Int32
		release := make(chan struct{})
		m.sites[1].world.Program("held", func(context.Context, *fake.Proc) int {
			n := now.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			<-release
			now.Add(-1)
			return 0
		})
		const asked = 200
		ends := make(chan error, asked)
		for range asked {
			go func() { ends <- run(id, api.Exec{Command: []string{"held"}}) }()
		}
		for range asked - execsMax {
			if err := <-ends; !errors.Is(err, placement.ErrLimit) {
				t.Errorf("one too many: %v", err)
			}
		}
		close(release)
		for range execsMax {
			if err := <-ends; err != nil {
				t.Errorf("one within the bound: %v", err)
			}
		}
		if most.Load() != execsMax {
			t.Errorf("%d ran at once, and %d may", most.Load(), execsMax)
		}
	})
}

// shut is a driver whose work can't be entered.
type shut struct{ driver.Driver }

func TestExecWhereNothingCanBeEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 1, 0)
		defer m.close()
		s := m.sites[0]
		m.kill(s, true)
		s.wrap = func(d *fake.Driver) []driver.Driver { return []driver.Driver{shut{d}} }
		m.start(s, "")
		b := backend{s.node}
		if _, err := b.PutApp(t.Context(), api.PutRequest{App: serverApp("shop", 1)}); err != nil {
			t.Fatal(err)
		}
		m.until("deployed", time.Minute, func() error { return m.runOnce(s, "shop", 1, "s1") })
		list, err := b.Allocations(t.Context(), api.AllocationQuery{App: "shop", Page: api.Page{Limit: 10}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Exec(t.Context(), list.Items[0].ID, api.Exec{Command: []string{"run"}, Stdout: io.Discard, Stderr: io.Discard})
		if !errors.Is(err, placement.ErrInvalid) {
			t.Errorf("exec where there is none: %v", err)
		}
	})
}

package invoke

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// HedgeAfter is how long the nearest peer may take to begin its answer
	// before the next one is asked as well.
	HedgeAfter = time.Second
	// PeersMax bounds the peers that one request is sent to.
	PeersMax = 4
	// BodyKept is the largest request body that is kept to be sent again;
	// a larger one goes to one peer only.
	BodyKept = 1 << 20
	// CallsMax bounds the calls that are under way from here; each may keep a
	// body. One more is answered 503.
	CallsMax = 1024
	// busyMax bounds the instances here that are asked in turn when they refuse
	// for want of room, each of which may keep a request waiting.
	busyMax = 3
	// openMax is how long reaching a peer may take.
	openMax = 3 * time.Second
)

// ErrNone says that no instance of the function is known.
var ErrNone = errors.New("no running instance of the function is known here")

// Target names a function.
type Target struct {
	Key       placement.AppKey
	Component string
}

// Config is what a Router is made with.
type Config struct {
	// Local are the driver's ids of the running instances at this peer.
	Local func(Target) []string
	// Call calls one of them.
	Call func(ctx context.Context, id string, r *driver.Request) (*driver.Response, error)
	// Elsewhere are the other peers that run instances, nearest first.
	Elsewhere func(Target) []string
	// Open opens a stream of Kind to a peer.
	Open func(ctx context.Context, peer string) (Stream, error)
}

// Router brings requests to functions.
type Router struct {
	cfg    Config
	next   atomic.Uint64 // turns between local instances
	local  atomic.Int64
	remote atomic.Int64
	hedged atomic.Int64
	flying atomic.Int64 // calls whose answer was not closed yet
}

// Counts are the calls made so far.
type Counts struct{ Local, Remote, Hedged int64 }

// New makes a Router.
func New(cfg Config) *Router { return &Router{cfg: cfg} }

// Counts are the calls made so far.
func (r *Router) Counts() Counts {
	return Counts{Local: r.local.Load(), Remote: r.remote.Load(), Hedged: r.hedged.Load()}
}

// Call calls a function wherever it is nearest. What a person should see is a
// response, refusals included; the error is for a function that runs nowhere
// (ErrNone) or that could not be reached.
func (r *Router) Call(ctx context.Context, t Target, request *driver.Request) (*driver.Response, error) {
	if r.flying.Add(1) > CallsMax {
		r.flying.Add(-1)
		return driver.Busy("too many calls are under way from this peer", time.Second), nil
	}
	response, err := r.call(ctx, t, request)
	if err != nil {
		r.flying.Add(-1)
		return nil, err
	}
	response.Body = &closing{ReadCloser: response.Body, then: func() { r.flying.Add(-1) }}
	return response, nil
}

func (r *Router) call(ctx context.Context, t Target, request *driver.Request) (*driver.Response, error) {
	body, kept, err := keep(request)
	if err != nil {
		return nil, err
	}
	here, err := r.callLocal(ctx, t, request, body, kept)
	if err != nil && !errors.Is(err, ErrNone) {
		return nil, err
	}
	if here != nil && (!kept || !elsewhere(here.Cause, repeatable(request))) {
		return here, nil
	}
	peers := r.cfg.Elsewhere(t)
	peers = peers[:min(len(peers), PeersMax)]
	if len(peers) == 0 {
		if here != nil {
			return here, nil
		}
		return nil, ErrNone
	}
	if !kept {
		peers = peers[:1]
	}
	if here != nil {
		here.Body.Close()
	}
	r.remote.Add(1)
	return r.callPeers(ctx, t, request, body, peers)
}

// repeatable says whether a request may be executed more than once.
func repeatable(request *driver.Request) bool {
	switch request.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return false
}

// elsewhere says whether an answer is a reason to ask another instance: it was
// refused, or it was cut short and may be repeated.
func elsewhere(cause driver.Cause, repeatable bool) bool {
	return cause == driver.CauseBusy || cause == driver.CauseStopped && repeatable
}

// keep reads a body that is small enough to be sent again.
func keep(request *driver.Request) (body []byte, kept bool, err error) {
	if request.Body == nil {
		return nil, true, nil
	}
	if request.ContentLength > BodyKept {
		return nil, false, nil
	}
	body, err = io.ReadAll(io.LimitReader(request.Body, BodyKept+1))
	if err != nil {
		return nil, false, fmt.Errorf("read the request's body: %w", err)
	}
	if len(body) > BodyKept {
		request.Body = io.MultiReader(bytes.NewReader(body), request.Body)
		return nil, false, nil
	}
	request.Body, request.ContentLength = bytes.NewReader(body), int64(len(body))
	return body, true, nil
}

// callLocal calls an instance at this peer, each in turn; ErrNone when there
// is none. One that refuses for want of room is no reason to leave the peer, if
// the request, whose body may be kept, can be sent again.
func (r *Router) callLocal(ctx context.Context, t Target, request *driver.Request, body []byte, kept bool) (*driver.Response, error) {
	ids := r.cfg.Local(t)
	if len(ids) == 0 {
		return nil, ErrNone
	}
	first := int(r.next.Add(1) % uint64(len(ids)))
	var busy *driver.Response
	for i, refused := 0, 0; i < len(ids) && refused < busyMax; i++ {
		if body != nil {
			request.Body = bytes.NewReader(body)
		}
		response, err := r.cfg.Call(ctx, ids[(first+i)%len(ids)], request)
		if errors.Is(err, driver.ErrUnknownTask) {
			continue // it ended a moment ago
		}
		if busy != nil {
			busy.Body.Close()
		}
		if err == nil && kept && response.Cause == driver.CauseBusy {
			busy = response
			refused++
			continue
		}
		r.local.Add(1)
		return response, err
	}
	if busy != nil {
		r.local.Add(1)
		return busy, nil
	}
	return nil, ErrNone
}

// attempt is the outcome of sending a request to one peer.
type attempt struct {
	response *driver.Response
	err      error
	executed bool // it may have been executed there
	number   int
}

// callPeers sends a request to one peer after another; the first answer wins.
func (r *Router) callPeers(ctx context.Context, t Target, request *driver.Request, body []byte, peers []string) (*driver.Response, error) {
	repeatable := repeatable(request)
	results := make(chan attempt, len(peers))
	var cancels []context.CancelFunc // by the number of the attempt
	next, flying := 0, 0
	launch := func() {
		attemptCtx, cancel := context.WithCancel(ctx)
		cancels = append(cancels, cancel)
		again := *request
		if body != nil {
			again.Body = bytes.NewReader(body)
		}
		number := next
		next++
		flying++
		go func() {
			a := r.callPeer(attemptCtx, peers[number], t, &again)
			a.number = number
			results <- a
		}()
	}
	launch()
	hedge := time.NewTimer(HedgeAfter)
	defer hedge.Stop()
	var errs []error
	busy, executed := false, false
	for flying > 0 {
		select {
		case a := <-results:
			flying--
			last := flying == 0 && next == len(peers)
			if a.err == nil && (last || !elsewhere(a.response.Cause, repeatable)) {
				for number, cancel := range cancels {
					if number != a.number {
						cancel()
					}
				}
				go discard(results, flying)
				a.response.Body = &closing{ReadCloser: a.response.Body, then: cancels[a.number]}
				return a.response, nil
			}
			if a.err == nil { // another may have room
				a.response.Body.Close()
				a.err, busy = fmt.Errorf("peer %s: busy", peers[a.number]), true
			}
			executed = executed || a.executed
			cancels[a.number]()
			errs = append(errs, a.err)
			if next < len(peers) && (repeatable || !a.executed) {
				launch()
			}
		case <-hedge.C:
			if repeatable && next < len(peers) {
				r.hedged.Add(1)
				launch()
				hedge.Reset(HedgeAfter)
			}
		}
	}
	if busy && (repeatable || !executed) {
		return driver.Busy("no instance in reach has room", time.Second), nil
	}
	return nil, fmt.Errorf("call %s of %s: %w", t.Component, t.Key, errors.Join(errs...))
}

// discard takes the answers of the attempts that lost; they were cancelled.
func discard(results <-chan attempt, flying int) {
	for range flying {
		if a := <-results; a.response != nil {
			a.response.Body.Close()
		}
	}
}

// closing does something once when the body is closed.
type closing struct {
	io.ReadCloser
	once sync.Once
	then func()
}

func (c *closing) Close() error {
	err := c.ReadCloser.Close()
	c.once.Do(c.then)
	return err
}

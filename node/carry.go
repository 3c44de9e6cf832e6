package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/transport"
)

// messagesMax bounds the messages of one batch of a peer.
const messagesMax = 1024

// fetchMax is how long the fetch of one artifact may take.
const fetchMax = 30 * time.Minute

// carry carries out one effect of the core. It runs on the loop's goroutine
// and never waits for the loop.
func (n *Node) carry(effect placement.Effect) {
	switch e := effect.(type) {
	case placement.Persist:
		n.persist(e)
	case placement.Send:
		n.outboxes.send(e.To, e.Body)
	case placement.Publish:
		k := recordKey{e.Table, e.Key}
		n.publisher.publish(k, table.Wanted{Value: e.Value, Seen: n.told[k], Beside: e.Beside})
	case placement.Start:
		n.runner.Start(e.ID, e.Spec)
	case placement.Stop:
		if e.Keep {
			n.runner.Halt(e.ID)
		} else {
			n.runner.Stop(e.ID)
		}
	case placement.Watch:
		n.runner.Watch(e.ID, e.Spec)
	case placement.Extend:
		n.runner.Extend(e.ID, e.Until)
	case placement.DropVolume:
		n.dropVolume(e.ID)
	case placement.Fetch:
		n.startFetch(e)
	case placement.Measure:
		n.startMeasure(e)
	case placement.Answer:
		n.answer(e.Ticket, e.Result)
	case placement.Forced:
		n.forced(e)
	case placement.Record:
		n.record(e)
	default:
		panic(fmt.Sprintf("node: no way to carry out %T", effect))
	}
}

// stepTaken ends what the core did in a step.
func (n *Node) stepTaken(core *placement.Peer) {
	n.outboxes.flush()
	n.workMoved(core)
}

// persist queues a batch of the core. The order of batches is the order of
// effects, which is why a full queue is waited for here.
func (n *Node) persist(e placement.Persist) {
	writes := make([]store.Write, len(e.Writes))
	for i, w := range e.Writes {
		writes[i] = store.Write{Table: corePrefix + w.Table, Key: w.Key, Value: w.Value}
	}
	done := func(err error) {
		if err == nil {
			n.loop.post(placement.Persisted{Token: e.Token})
			return
		}
		n.loop.post(placement.PersistFailed{Token: e.Token, Err: err.Error(), Full: errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrFailed)})
	}
	err := n.store.CommitAsync(writes, done)
	if errors.Is(err, store.ErrBusy) {
		done(n.store.Commit(n.ctx, writes))
		return
	}
	if err != nil {
		done(err)
	}
}

func (n *Node) sendBatch(ctx context.Context, to string, batch coreBatch) error {
	_, err := transport.CallTyped[coreBatch, struct{}](ctx, n.link, to, methodCore, batch)
	return err
}

// receiveBatch takes a batch of another core's messages.
func (n *Node) receiveBatch(_ context.Context, from string, batch coreBatch) (struct{}, error) {
	if len(batch.Messages) > messagesMax {
		return struct{}{}, &transport.Error{Kind: transport.KindTooLarge,
			Msg: fmt.Sprintf("%d messages in a batch, at most %d", len(batch.Messages), messagesMax)}
	}
	for _, body := range batch.Messages {
		if err := n.loop.receive(placement.Receive{From: placement.PeerID(from), Body: body}); err != nil {
			return struct{}{}, &transport.Error{Kind: transport.KindExhausted, Msg: err.Error()}
		}
	}
	return struct{}{}, nil
}

// startFetch begins a fetch, unless one of the same artifact is under way: the
// core asks again and again for what it misses.
func (n *Node) startFetch(e placement.Fetch) {
	a := placement.Artifact{Digest: e.Artifact.Digest, Tree: e.Artifact.Tree, Arch: e.Artifact.Arch} // of whatever size it is said to be
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fetching[a] {
		return
	}
	n.fetching[a] = true
	n.work.Go(func() {
		defer func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			delete(n.fetching, a)
		}()
		n.fetch(e)
	})
}

// fetch brings an artifact here, and compiles it ahead where that helps.
func (n *Node) fetch(e placement.Fetch) {
	ctx, cancel := context.WithTimeout(n.ctx, fetchMax)
	defer cancel()
	digest := e.Artifact.Digest
	holders := make([]string, 0, len(e.From))
	for _, p := range e.From {
		if p != n.self().Peer {
			holders = append(holders, string(p))
		}
	}
	if err := n.fetchArtifact(ctx, e.Artifact, holders); err != nil {
		if n.ctx.Err() == nil {
			n.log.Warn("an artifact was not fetched", "digest", digest, "err", err)
			n.loop.post(placement.BlobFailed{Digest: digest, Reason: err.Error()})
		}
		return
	}
	n.loop.post(placement.BlobArrived{Digest: digest})
	if e.Warm && !e.Artifact.Tree {
		n.warm(ctx, digest)
	}
}

// warm prepares an artifact ahead, so that a failover does not wait for a
// compiler.
func (n *Node) warm(ctx context.Context, digest string) {
	path, err := n.store.Blobs().Verified(digest)
	if err != nil {
		n.log.Error("an artifact can't be read", "digest", digest, "err", err)
		return
	}
	for _, d := range n.drivers {
		w, ok := d.(driver.Warmer)
		if !ok {
			continue
		}
		if err := w.Warm(ctx, digest, path); err != nil && ctx.Err() == nil {
			// Most artifacts are for another driver; what is wrong with one
			// that is for this shows when it is started.
			n.log.Debug("not compiled ahead", "driver", d.Name(), "digest", digest, "err", err)
		}
	}
}

// answer ends a person's request.
func (n *Node) answer(ticket uint64, result placement.Result) {
	n.mu.Lock()
	waiting := n.answers[ticket]
	delete(n.answers, ticket)
	n.mu.Unlock()
	if waiting != nil {
		waiting <- result // has room for one
	}
}

// submit hands a request to the core and waits for its answer.
func (n *Node) submit(ctx context.Context, event func(ticket uint64) placement.Event) (placement.Result, error) {
	if err := n.outcast(); err != nil {
		return placement.Result{}, err
	}
	waiting := make(chan placement.Result, 1)
	n.mu.Lock()
	n.ticket++
	ticket := n.ticket
	n.answers[ticket] = waiting
	n.mu.Unlock()
	n.loop.post(event(ticket))
	select {
	case result := <-waiting:
		return result, n.inNames(result.Err)
	case <-n.loop.done:
		return placement.Result{}, errClosing
	case <-ctx.Done():
		n.mu.Lock()
		delete(n.answers, ticket)
		n.mu.Unlock()
		return placement.Result{}, ctx.Err()
	}
}

// workChanged takes news of an allocation from the runner.
func (n *Node) workChanged(id placement.AllocationID, state placement.WorkState) {
	n.loop.post(placement.WorkChanged{ID: id, State: state})
}

// workFenced keeps the event that its deadline ended an allocation.
func (n *Node) workFenced(id placement.AllocationID, s driver.Status) {
	what := placement.Happened{Type: "fenced", Slots: placement.SlotsOf(id.Slot).String(), Peer: n.self().Peer, Message: s.Reason}
	if b, err := placement.FromLabels(s.Labels); err == nil {
		what.UID, what.Key, what.Component = b.UID, b.Key, b.Component
	}
	n.record(placement.Record{Event: &what})
}

package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
)

const (
	// waitEvery is how often an asker hears that its answer comes later.
	waitEvery = 250 * time.Millisecond
	// holdMax bounds how long a "have" is held.
	holdMax = 500 * time.Millisecond
	// peersEvery is how often one asker is told who else asks.
	peersEvery = time.Second
)

// visit is one stream that a peer opened.
type visit struct {
	line
	m      *Mover
	peer   string
	digest string
	end    context.CancelFunc

	file   File // once it is here whole, and was read from
	chain  chain.Chain
	told   time.Time // of other peers
	served bool
	buffer []byte
}

// Serve answers the requests of a peer on a stream that it opened, until it ends.
func (m *Mover) Serve(ctx context.Context, peer string, stream Stream) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	v := &visit{line: line{ctx: ctx, stream: stream}, m: m, peer: peer, end: end}
	defer v.close()
	admitted := m.admit(peer)
	if admitted {
		defer m.dismiss(peer)
	}
	for {
		var q request
		if err := v.receive(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("artifact: serve: %w", err)
		}
		if v.digest == "" {
			if err := chain.CheckDigest(q.Digest); err != nil {
				return fmt.Errorf("artifact: serve: %w", err)
			}
			v.digest = q.Digest
			m.met(v.digest, peer)
		}
		if !admitted {
			return v.busy()
		}
		if err := v.answer(q); err != nil {
			return fmt.Errorf("artifact: serve %s: %w", v.digest, err)
		}
	}
}

func (m *Mover) admit(peer string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := 0
	for _, n := range m.visits {
		all += n
	}
	if all >= ServesMax || m.visits[peer] >= servesPeerMax {
		return false
	}
	m.visits[peer]++
	return true
}

func (m *Mover) dismiss(peer string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.visits[peer]--; m.visits[peer] == 0 {
		delete(m.visits, peer)
	}
}

func (v *visit) close() {
	if v.file != nil {
		_ = v.file.Close() // it was only read
	}
	if v.served {
		v.m.count(func(c *Moved) { c.Served++ })
	}
}

func (v *visit) busy() error {
	v.m.count(func(c *Moved) { c.Busy++ })
	return v.send(answer{Say: sayBusy, Peers: v.others(), Sent: v.m.sent(v.digest)})
}

// others are peers to tell the asker of, now and then.
func (v *visit) others() []string {
	if time.Since(v.told) < peersEvery {
		return nil
	}
	v.told = time.Now()
	return v.m.peersOf(v.digest, v.peer)
}

func (v *visit) answer(q request) error {
	f := v.m.partial(v.digest)
	if f == nil {
		if err := v.open(); err != nil {
			return err
		}
		if v.file == nil {
			return v.send(answer{Say: sayNone, Peers: v.others()})
		}
	}
	switch q.What {
	case askHave:
		v.m.met(v.digest, v.peer)
		return v.have(f, q)
	case askChain:
		return v.states(f)
	case askChunk:
		return v.chunk(f, q.Chunk)
	}
	return fmt.Errorf("%w: a request for %.20q", errRefused, q.What)
}

// partial is a fetch that has something to give.
func (m *Mover) partial(digest string) *fetch {
	m.mu.Lock()
	f := m.underway[digest]
	m.mu.Unlock()
	if f == nil || !f.opened() {
		return nil
	}
	return f
}

// open opens the whole file, if it is here. The asker hears meanwhile that this
// takes its time: the file may have to be read through.
func (v *visit) open() error {
	if v.file != nil || !v.m.cfg.Store.Has(v.digest) {
		return nil
	}
	type opened struct {
		file  File
		chain chain.Chain
		err   error
	}
	if v.m.cfg.Store.Known(v.digest) {
		file, c, err := v.m.cfg.Store.Open(v.digest)
		if err == nil {
			v.file, v.chain = file, c
		}
		return nil // else it has gone
	}
	result := make(chan opened, 1)
	go func() {
		file, c, err := v.m.cfg.Store.Open(v.digest)
		result <- opened{file, c, err}
	}()
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	var gone error
	for {
		select {
		case o := <-result:
			if o.err == nil {
				v.file, v.chain = o.file, o.chain
			}
			return gone
		case <-tick.C:
			if gone == nil { // the reading can't be broken off
				gone = v.send(answer{Say: sayWait})
			}
		}
	}
}

func (v *visit) have(f *fetch, q request) error {
	a := answer{Peers: v.others(), Sent: v.m.sent(v.digest)}
	if f != nil {
		f.await(v.ctx, q.Seen, min(q.Hold, holdMax))
		a.Size, a.Have, a.Version = f.holdings()
		return v.send(a)
	}
	a.Size, a.Whole = v.chain.Size(), true
	if a.Size <= inlineMax && q.Seen == 0 {
		data := make([]byte, a.Size)
		if _, err := v.file.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) || v.chain.Check(0, data) != nil {
			return v.rotten()
		}
		a.Data = data
		v.sent(len(data))
	}
	return v.send(a)
}

// rotten has the file read through, after a part of it was wrong.
func (v *visit) rotten() error {
	err := v.m.cfg.Store.Check(v.digest)
	v.m.cfg.Log.Error("a file was wrong when a peer asked for it", "digest", v.digest, "err", err)
	return v.send(answer{Say: sayNone, Peers: v.others()})
}

func (v *visit) states(f *fetch) error {
	c := v.chain
	if f != nil {
		c, _ = f.chainNow()
	}
	if err := v.send(answer{Size: c.Size(), Length: len(c.States())}); err != nil {
		return err
	}
	return v.write(c.States(), nil)
}

func (v *visit) chunk(f *fetch, i int) error {
	lane, err := v.m.sends.enter(v.ctx, v.peer, v.end, func() error { return v.send(answer{Say: sayWait}) })
	if err != nil {
		return err
	}
	if lane == nil {
		return v.busy()
	}
	defer lane.leave()
	if v.buffer == nil {
		v.buffer = make([]byte, chain.ChunkLen)
		defer func() { v.buffer = nil }() // an idle stream holds none
	}
	var data []byte
	if f != nil {
		data, _, err = f.read(i, v.buffer)
		if err != nil {
			a := answer{Say: sayMissing}
			a.Size, a.Have, a.Version = f.holdings()
			return v.send(a)
		}
		v.m.sending(v.digest, i, f.chunks())
	} else {
		if i < 0 || i >= v.chain.Chunks() {
			return fmt.Errorf("%w: chunk %d of %d", errRefused, i, v.chain.Chunks())
		}
		offset, length := v.chain.Span(i)
		data = v.buffer[:length]
		v.m.sending(v.digest, i, v.chain.Chunks())
		if _, err := v.file.ReadAt(data, offset); err != nil && !errors.Is(err, io.EOF) || v.chain.Check(i, data) != nil {
			return v.rotten()
		}
	}
	if err := v.send(answer{Length: len(data), Sent: v.m.sent(v.digest)}); err != nil {
		return err
	}
	return v.write(data, lane)
}

// write sends bytes, and goes to another lane when they are read slowly.
func (v *visit) write(data []byte, lane *lane) error {
	mark, since := len(data), time.Now()
	for len(data) > 0 {
		n, err := v.stream.Write(data[:min(len(data), progressMin)])
		data = data[n:]
		v.sent(n)
		if err != nil {
			return err
		}
		if lane != nil {
			lane.share.came(n, len(data))
		}
		if took := time.Since(since); lane != nil && took >= paceOver {
			if float64(mark-len(data)) < slowPace*took.Seconds() {
				lane.slowDown()
			}
			mark, since = len(data), time.Now()
		}
		if err := v.progress(n); err != nil {
			return err
		}
	}
	return nil
}

func (v *visit) sent(n int) {
	v.served = true
	v.m.count(func(c *Moved) { c.ServedBytes += int64(n) })
}

package artifact

import (
	"errors"
	"fmt"

	"github.com/hansa-mesh/hansa/store/chain"
)

// errNoFile says that a fetch has no file open: it could not be, or not any more.
var errNoFile = errors.New("there is no file to write to")

// begin opens the file, once its size is known.
func (f *fetch) begin(size int64) error {
	f.fileMu.Lock()
	defer f.fileMu.Unlock()
	if f.file != nil {
		err := f.file.Drop()
		f.file = nil
		if err != nil {
			return fmt.Errorf("artifact: fetch %s: %w", f.digest, err)
		}
	}
	file, err := f.m.cfg.Store.Assemble(f.digest, size)
	if err != nil {
		return fmt.Errorf("artifact: fetch %s: %w", f.digest, err)
	}
	f.file = file
	return nil
}

// commit ends a fetch, unless the disk did not keep what was written to it: then
// that is fetched again.
func (f *fetch) commit() (done bool, err error) {
	f.awaitWriters()
	f.fileMu.RLock() // others read it meanwhile
	err = errNoFile
	if f.file != nil {
		err = f.file.Commit()
	}
	f.fileMu.RUnlock()
	if errors.Is(err, errNoFile) { // its size turned out to be another: nothing is here
		return false, nil
	}
	if err == nil {
		f.m.count(func(c *Moved) { c.Fetched++ })
		return true, nil
	}
	f.m.cfg.Log.Warn("a file that was fetched can't be taken over; it is looked through", "digest", f.digest, "err", err)
	f.judging.Lock() // else the chain may be another meanwhile
	defer f.judging.Unlock()
	c, chained := f.chainNow()
	if !chained {
		return false, nil
	}
	have, _, readErr := f.lookThrough(c)
	if errors.Is(readErr, errNoFile) {
		return false, nil
	}
	if readErr != nil || have.count() == c.Chunks() { // the disk's own trouble
		return true, fmt.Errorf("artifact: fetch %s: %w", f.digest, errors.Join(err, readErr))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold(have)
	return false, nil
}

// awaitWriters waits for who is writing a chunk for a second time; who comes later
// sees that it is here.
func (f *fetch) awaitWriters() {
	f.fileMu.Lock()
	defer f.fileMu.Unlock()
}

// hold says which chunks are here. The caller holds mu.
func (f *fetch) hold(have bitset) {
	f.have, f.left = have, f.chain.Chunks()-have.count()
	f.version++
	f.changed()
}

// lookThrough finds the chunks that are on the disk and right, and their bytes.
func (f *fetch) lookThrough(c chain.Chain) (bitset, int64, error) {
	f.fileMu.RLock()
	defer f.fileMu.RUnlock()
	if f.file == nil {
		return nil, 0, errNoFile
	}
	have, bytes := newBitset(c.Chunks()), int64(0)
	buffer := make([]byte, chain.ChunkLen)
	for i := range c.Chunks() {
		offset, length := c.Span(i)
		if length == 0 || !f.file.Written(offset, length) {
			continue
		}
		if f.ctx.Err() != nil {
			return nil, 0, f.ctx.Err()
		}
		if _, err := f.file.ReadAt(buffer[:length], offset); err == nil && c.Check(i, buffer[:length]) == nil {
			have.set(i)
			bytes += int64(length)
		}
	}
	return have, bytes, nil
}

// read reads a chunk that is here, and says by which chain it is right. One that is not
// what was written is here no more.
func (f *fetch) read(i int, buffer []byte) ([]byte, chain.Chain, error) {
	f.mu.Lock()
	c, ok := f.chain, f.chained && i >= 0 && f.have.has(i)
	f.mu.Unlock()
	if !ok {
		return nil, c, errMissing
	}
	offset, length := c.Span(i)
	f.fileMu.RLock()
	defer f.fileMu.RUnlock()
	if f.file == nil {
		return nil, c, errMissing
	}
	if _, err := f.file.ReadAt(buffer[:length], offset); err != nil || c.Check(i, buffer[:length]) != nil {
		f.lost(i)
		return nil, c, errMissing
	}
	return buffer[:length], c, nil
}

func (f *fetch) lost(i int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 || !f.have.has(i) { // the whole file is being read through
		return
	}
	f.have.unset(i)
	f.left++
	f.version++
}

// keep writes a chunk that was found right by a chain.
func (f *fetch) keep(c chain.Chain, i int, data []byte) error {
	f.fileMu.RLock()
	defer f.fileMu.RUnlock()
	if f.file == nil || !f.lacks(c, i) { // it came from another, or goes by another chain now
		return nil
	}
	offset, _ := c.Span(i)
	if _, err := f.file.WriteAt(data, offset); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.lacksLocked(c, i) {
		return nil
	}
	f.have.set(i)
	f.left--
	f.version++
	f.changed()
	return nil
}

// lacks says whether a chunk of a chain is still wanted.
func (f *fetch) lacks(c chain.Chain, i int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lacksLocked(c, i)
}

func (f *fetch) lacksLocked(c chain.Chain, i int) bool {
	return f.chained && f.chain.Size() == c.Size() && f.chain.Differ(c) < 0 && !f.have.has(i)
}

// opened says whether there is anything to tell others.
func (f *fetch) opened() bool {
	_, ok := f.chainNow()
	return ok
}

func (f *fetch) chunks() int {
	c, _ := f.chainNow()
	return c.Chunks()
}

func (f *fetch) chainNow() (chain.Chain, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chain, f.chained
}

// holdings are the chunks that are here.
func (f *fetch) holdings() (size int64, have []byte, version uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size, append([]byte{}, f.have...), f.version
}

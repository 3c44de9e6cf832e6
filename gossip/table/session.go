package table

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// ErrProtocol is a frame that does not belong where it came, or is malformed.
var ErrProtocol = errors.New("sync protocol")

// SyncStats tells what an exchange did.
type SyncStats struct {
	Equal           bool // the copies were equal at the start
	Sent, Received  int  // records
	RemovedHere     int  // records that the other side knew as removed
	RemovedThere    int
	Refused         int
	FramesOut       int
	FramesIn        int
	BytesOut        int64
	BytesIn         int64
	EqualAfterwards bool // as far as this side can tell
}

// Session is one exchange between two copies. The sides speak in turns: send
// all frames that Next returns, then feed what arrives to Step, until Done.
//
//	initiator                              responder
//	hello(hash)                        ─▶
//	                                   ◀─  equal | context
//	context, groups…, end              ─▶
//	                                   ◀─  groups…, end(hash, tops)
//	finished | subs                    ─▶
//	                                   ◀─  groups…, dots…, dotsEnd
//	groups…, removed…, finished        ─▶
//
// A table goes on changing while it is exchanged. Before either side says what it has
// no more it sends what it has had since, which may replace that: so no key is empty
// at one side that never was at the other.
//
// What Step applied stays applied when an exchange breaks, so the next one has
// less to do. The context of the other side is merged only after all that it
// sent was taken; until then a record that did not arrive remains new.
//
// The batches of Step must be durable before the frames that follow are sent.
type Session struct {
	t         *Table
	initiator bool
	want      []kind // frames that may come next
	done      bool

	theirs  *Context
	sent    *Context // own, when all that the other side lacked was queued
	refused []Dot
	spared  map[string]struct{} // keys with a refused record: nothing is dropped there
	listed  [subsTotal]bool     // subs whose dots the other side told

	ready  [][]byte
	groups []group // still to send
	tail   [][]byte
	stats  SyncStats
}

// Initiate begins an exchange; its first frame is ready.
func (t *Table) Initiate() *Session {
	s := &Session{t: t, initiator: true, want: []kind{kindEqual, kindContext}, spared: map[string]struct{}{}}
	hash := t.Hash()
	s.say(&frame{Kind: kindHello, Version: protocolVersion, Name: t.cfg.Name, Hash: hash[:]})
	return s
}

// Respond awaits an exchange that the other side begins.
func (t *Table) Respond() *Session {
	return &Session{t: t, want: []kind{kindHello}, spared: map[string]struct{}{}}
}

// Done reports that nothing more will come; frames may still be ready to send.
func (s *Session) Done() bool { return s.done }

// Stats returns what was done so far.
func (s *Session) Stats() SyncStats { return s.stats }

// Next returns a frame to send, false if it is the other side's turn.
func (s *Session) Next() ([]byte, bool) {
	var b []byte
	switch {
	case len(s.ready) > 0:
		b, s.ready = s.ready[0], s.ready[1:]
	case len(s.groups) > 0:
		b = s.chunk()
	case len(s.tail) > 0:
		b, s.tail = s.tail[0], s.tail[1:]
	default:
		return nil, false
	}
	s.stats.FramesOut++
	s.stats.BytesOut += int64(len(b))
	return b, true
}

// chunk packs groups into one frame of about chunkBytes.
func (s *Session) chunk() []byte {
	size, n := 0, 0
	for n < len(s.groups) && (n == 0 || size < chunkBytes) {
		for _, r := range s.groups[n].Records {
			size += len(r)
			s.stats.Sent++
		}
		size += len(s.groups[n].Key) + len(s.groups[n].Others)*40
		n++
	}
	f := &frame{Kind: kindGroups, Groups: s.groups[:n]}
	s.groups = s.groups[n:]
	return f.encode()
}

// Step takes one frame of the other side.
func (s *Session) Step(raw []byte) (Batch, error) {
	s.t.begin()
	err := s.step(raw)
	return s.t.finish(), err
}

// step is Step within a batch that is being built.
func (s *Session) step(raw []byte) error {
	f, err := decodeFrame(raw)
	if err != nil {
		return fmt.Errorf("sync table %s: %w: %w", s.t.cfg.Name, ErrProtocol, err)
	}
	if !slices.Contains(s.want, f.Kind) {
		return fmt.Errorf("sync table %s: %w: frame %d, wanted %d", s.t.cfg.Name, ErrProtocol, f.Kind, s.want)
	}
	s.stats.FramesIn++
	s.stats.BytesIn += int64(len(raw))
	if err := s.take(f); err != nil {
		return fmt.Errorf("sync table %s: %w", s.t.cfg.Name, err)
	}
	return nil
}

func (s *Session) take(f *frame) error {
	switch f.Kind {
	case kindHello:
		return s.takeHello(f)
	case kindEqual:
		s.stats.Equal, s.stats.EqualAfterwards = true, true
		s.done = true
	case kindContext:
		return s.takeContext(f)
	case kindGroups:
		return s.takeGroups(f.Groups)
	case kindEnd:
		return s.takeEnd(f)
	case kindSubs:
		return s.takeSubs(f.Subs)
	case kindDots:
		return s.takeDots(f.Lists)
	case kindDotsEnd:
		s.finish()
	case kindRemoved:
		s.takeRemoved(f.Dots)
	case kindFinished:
		hash := s.t.Hash()
		s.stats.EqualAfterwards = bytes.Equal(f.Hash, hash[:])
		s.done = true
	}
	return nil
}

func (s *Session) takeHello(f *frame) error {
	if f.Version != protocolVersion || f.Name != s.t.cfg.Name {
		return fmt.Errorf("%w: asked for table %q, version %d", ErrProtocol, f.Name, f.Version)
	}
	hash := s.t.Hash()
	if bytes.Equal(f.Hash, hash[:]) {
		s.say(&frame{Kind: kindEqual})
		s.stats.Equal, s.stats.EqualAfterwards = true, true
		s.done = true
		return nil
	}
	s.want = []kind{kindContext, kindGroups, kindEnd}
	s.announce()
	return nil
}

func (s *Session) takeContext(f *frame) error {
	if err := s.learn(f.Context); err != nil {
		return err
	}
	if !s.initiator {
		return nil
	}
	// The snapshot that is announced and the records that are sent are of one
	// moment: what the one covers is among the other, or was removed.
	s.announce()
	s.queueGroups()
	s.tail = append(s.tail, (&frame{Kind: kindEnd}).encode())
	s.want = []kind{kindGroups, kindEnd}
	return nil
}

func (s *Session) learn(raw []byte) error {
	c := NewContext()
	if err := c.UnmarshalBinary(raw); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	s.theirs = c
	return nil
}

func (s *Session) announce() {
	s.say(&frame{Kind: kindContext, Context: s.t.encodeContext()})
}

// queueGroups lists every key with a live record that the other side has not
// seen, and was not sent before.
func (s *Session) queueGroups() {
	for _, key := range s.t.sorted.from("", s.t.keys) {
		var lacking []*Record
		for _, r := range s.t.keys[key] {
			if !s.theirs.Covers(r.Dot) && (s.sent == nil || !s.sent.Covers(r.Dot)) {
				lacking = append(lacking, r)
			}
		}
		for len(lacking) > 0 {
			lacking = s.queueGroup(key, lacking)
		}
	}
	s.sent = s.t.Context()
}

// queueGroup takes as many of the lacking records as fit one frame; the
// group's Others name all that are alive besides, those of the next group too.
func (s *Session) queueGroup(key string, lacking []*Record) []*Record {
	g, size, n := group{Key: key}, 0, 0
	for n < len(lacking) && (n == 0 || size+len(lacking[n].raw) < chunkBytes) {
		g.Records = append(g.Records, lacking[n].raw)
		size += len(lacking[n].raw)
		n++
	}
	for _, r := range s.t.keys[key] {
		if !slices.Contains(lacking[:n], r) {
			g.Others = append(g.Others, r.Dot)
		}
	}
	s.groups = append(s.groups, g)
	return lacking[n:]
}

func (s *Session) takeGroups(groups []group) error {
	if s.theirs == nil {
		return fmt.Errorf("%w: records before a context", ErrProtocol)
	}
	for _, g := range groups {
		if err := s.takeGroup(g); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) takeGroup(g group) error {
	alive := make(map[Dot]struct{}, len(g.Records)+len(g.Others))
	for _, d := range g.Others {
		alive[d] = struct{}{}
	}
	whole := true
	for _, raw := range g.Records {
		o, err := decodeOperation(raw, s.t.cfg.ValueMax)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if o.Key != g.Key || o.Removal {
			return fmt.Errorf("%w: %s is no record of key %q", ErrProtocol, o.dot(), g.Key)
		}
		alive[o.dot()] = struct{}{}
		fresh, err := s.t.admit(o, raw)
		if err != nil {
			whole = false
			if err := s.refuse(o.dot(), err); err != nil {
				return err
			}
		} else if fresh {
			s.stats.Received++
		}
	}
	if !whole {
		s.spared[g.Key] = struct{}{}
		return nil
	}
	for _, r := range s.t.keys[g.Key] {
		if _, ok := alive[r.Dot]; !ok && s.theirs.Covers(r.Dot) {
			s.t.drop(r)
			s.stats.RemovedHere++
		}
	}
	return nil
}

// refuse leaves a record new; too many end the exchange.
func (s *Session) refuse(d Dot, err error) error {
	s.stats.Refused++
	if s.refused = append(s.refused, d); len(s.refused) > refusedMax {
		return fmt.Errorf("refused %d records, the last: %w", len(s.refused), err)
	}
	return nil
}

// takeEnd: all that the other side had for this one was taken, so what its
// context covers has now been seen here too, but for what was refused.
func (s *Session) takeEnd(f *frame) error {
	if s.theirs == nil {
		return fmt.Errorf("%w: end before a context", ErrProtocol)
	}
	seen := s.theirs
	if len(s.refused) > 0 {
		seen = seen.Clone()
		for _, d := range s.refused {
			seen.without(d)
		}
	}
	for _, w := range seen.sortedWriters() {
		s.t.coverSpans(w, seen.writers[w].spans)
	}
	if !s.initiator {
		s.queueGroups()
		end := &frame{Kind: kindEnd, Hash: s.t.buckets.full[:], Tops: s.t.buckets.encodeTops()}
		s.tail = append(s.tail, end.encode())
		s.want = []kind{kindSubs, kindFinished}
		return nil
	}
	if bytes.Equal(f.Hash, s.t.buckets.full[:]) || len(f.Tops) == 0 {
		s.stats.EqualAfterwards = len(s.refused) == 0
		s.finish()
		return nil
	}
	s.askSubs(f.Tops)
	return nil
}

func (s *Session) askSubs(tops []byte) {
	own := s.t.buckets.encodeTops()
	f := &frame{Kind: kindSubs}
	for i := range topsTotal {
		if at := i * markBytes; !bytes.Equal(own[at:at+markBytes], tops[at:at+markBytes]) {
			f.Subs = append(f.Subs, subs{Top: uint16(i), Hashes: s.t.buckets.encodeSubs(i)})
		}
	}
	s.say(f)
	s.want = []kind{kindGroups, kindDots, kindDotsEnd}
}

// takeSubs answers with the live dots of every sub that differs. A list is
// never split: what is absent from it counts.
func (s *Session) takeSubs(theirs []subs) error {
	differ := map[uint16]int{} // to the place in lists
	var lists []subDot
	for _, top := range theirs {
		own := s.t.buckets.encodeSubs(int(top.Top))
		for i := range subsEach {
			if at := i * markBytes; !bytes.Equal(own[at:at+markBytes], top.Hashes[at:at+markBytes]) {
				sub := top.Top*subsEach + uint16(i)
				if _, twice := differ[sub]; !twice {
					differ[sub] = len(lists)
					lists = append(lists, subDot{Sub: sub})
				}
			}
		}
	}
	for d, r := range s.t.live {
		if i, ok := differ[r.hash.sub]; ok {
			lists[i].Dots = append(lists[i].Dots, d)
		}
	}
	s.queueGroups()
	say := func(f *frame) { s.tail = append(s.tail, f.encode()) }
	f, size := &frame{Kind: kindDots}, 0
	for _, l := range lists {
		slices.SortFunc(l.Dots, Dot.Compare)
		if size > chunkBytes {
			say(f)
			f, size = &frame{Kind: kindDots}, 0
		}
		f.Lists = append(f.Lists, l)
		size += 8 + 50*len(l.Dots)
	}
	if len(f.Lists) > 0 {
		say(f)
	}
	say(&frame{Kind: kindDotsEnd})
	s.want = []kind{kindGroups, kindRemoved, kindFinished}
	return nil
}

// takeDots compares the live dots of some subs, both ways.
func (s *Session) takeDots(lists []subDot) error {
	theirs := map[uint16]map[Dot]struct{}{}
	var removed []Dot
	if len(lists) == 0 {
		return fmt.Errorf("%w: an empty list", ErrProtocol)
	}
	for _, l := range lists {
		if s.listed[l.Sub] { // each list costs a look at all that is here
			return fmt.Errorf("%w: sub %d is listed twice", ErrProtocol, l.Sub)
		}
		s.listed[l.Sub] = true
		set := make(map[Dot]struct{}, len(l.Dots))
		for _, d := range l.Dots {
			set[d] = struct{}{}
			if _, alive := s.t.live[d]; !alive && s.t.context.Covers(d) {
				removed = append(removed, d)
			}
		}
		theirs[l.Sub] = set
	}
	if len(removed) > 0 {
		s.queueGroups()
	}
	s.stats.RemovedThere += len(removed)
	for chunk := range slices.Chunk(removed, chunkBytes/50) {
		s.tail = append(s.tail, (&frame{Kind: kindRemoved, Dots: chunk}).encode())
	}
	var drop []*Record
	for d, r := range s.t.live {
		set, listed := theirs[r.hash.sub]
		if _, alive := set[d]; listed && !alive && s.theirs.Covers(d) {
			drop = append(drop, r)
		}
	}
	s.dropAll(drop)
	return nil
}

func (s *Session) takeRemoved(dots []Dot) {
	var drop []*Record
	for _, d := range dots {
		// The other side's context is the evidence, not its list.
		if r, alive := s.t.live[d]; alive && s.theirs != nil && s.theirs.Covers(d) {
			drop = append(drop, r)
		}
	}
	s.dropAll(drop)
}

func (s *Session) dropAll(records []*Record) {
	slices.SortFunc(records, func(a, b *Record) int { return a.Dot.Compare(b.Dot) })
	for _, r := range records {
		if _, spared := s.spared[r.Key]; !spared {
			s.t.drop(r)
			s.stats.RemovedHere++
		}
	}
}

func (s *Session) finish() {
	hash := s.t.Hash()
	s.tail = append(s.tail, (&frame{Kind: kindFinished, Hash: hash[:]}).encode())
	s.done = true
}

func (s *Session) say(f *frame) { s.ready = append(s.ready, f.encode()) }

func (t *Table) encodeContext() []byte {
	raw, err := t.context.MarshalBinary()
	if err != nil {
		panic(fmt.Sprintf("table: encode context: %v", err)) // strings and integers
	}
	return raw
}

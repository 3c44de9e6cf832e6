package placement

// gate holds back what depends on a write until the write is on disk. It is
// the one small executor that the node and the simulation share, because it is
// inside the core: Step returns only effects that may be carried out now.
//
//	persist(writes, done) ──▶ Persist{token} leaves at once
//	Persisted{token}      ──▶ done(nil): its sends, starts and answers leave
//	PersistFailed{token}  ──▶ done(err): what was held is let go
//
// Persists leave in the order in which they were made, and a disk applies them
// in that order.
type gate struct {
	next    uint64
	waiting map[uint64]func(*PersistFailed)
	broken  bool // FaultSkipGate
}

func newGate(broken bool) *gate {
	return &gate{waiting: map[uint64]func(*PersistFailed){}, broken: broken}
}

// out collects what one step does.
type out struct {
	self    PeerID
	now     Now
	gate    *gate
	effects []Effect
	inbox   []message // to this peer itself: never leaves
	future  bool      // Tuning.Future
}

// inboxMax bounds the messages that a peer sends itself in one step. Reaching
// it drops the rest, as a network would; everything is level-triggered.
const inboxMax = 4096

func (o *out) emit(e Effect) { o.effects = append(o.effects, e) }

func (o *out) send(to PeerID, m message) { o.sendAll([]PeerID{to}, m) }

// sendAll sends several peers the same message, which is encoded once.
func (o *out) sendAll(to []PeerID, m message) {
	m.V = messageVersion
	var body []byte
	for _, id := range to {
		if id == o.self {
			if len(o.inbox) < inboxMax {
				o.inbox = append(o.inbox, m)
			}
			continue
		}
		if body == nil {
			body = o.encoded(m)
		}
		o.emit(Send{To: id, Body: body, m: &m})
	}
}

func (o *out) encoded(m message) []byte {
	body := Encode(m)
	if o.future {
		body = withFuture(body)
	}
	return body
}

// persist writes a batch and calls done once it is on disk (nil) or is known
// not to be. Without writes done is called at once.
func (o *out) persist(writes []Write, done func(*PersistFailed)) {
	if len(writes) == 0 {
		done(nil)
		return
	}
	o.gate.next++
	token := o.gate.next
	o.emit(Persist{Token: token, Writes: writes})
	if o.gate.broken {
		o.gate.waiting[token] = func(*PersistFailed) {}
		done(nil)
		return
	}
	o.gate.waiting[token] = done
}

// resolve takes the answer to a Persist. Answers to unknown tokens, doubled
// ones among them, do nothing.
func (g *gate) resolve(token uint64, failed *PersistFailed) {
	done, ok := g.waiting[token]
	if !ok {
		return
	}
	delete(g.waiting, token)
	done(failed)
}

func (o *out) happened(h Happened) { o.emit(Record{Event: &h}) }

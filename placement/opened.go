package placement

// opened remembers intents that were read and found well-formed lately: the
// same bytes come in stores, votes, asks and tables, at every step of a
// negotiation. An Intent that was read is shared, and never changed. Whether
// its writer may still speak is for Verify to say, each time.
type opened struct {
	intents map[string]openedIntent // by body
	bytes   int
}

type openedIntent struct {
	by     PeerID
	intent Intent
	specs  map[string]uint64
}

// openedBytesMax bounds the bodies that are remembered; past it all are
// forgotten, and read again as they come.
const openedBytesMax = 4 << 20

func (o *opened) get(s Signed) (openedIntent, bool) {
	e, ok := o.intents[string(s.Body)]
	return e, ok && e.by == s.By
}

func (o *opened) add(s Signed, i Intent) openedIntent {
	e := openedIntent{by: s.By, intent: i, specs: map[string]uint64{}}
	for name, comp := range i.App.Components {
		e.specs[name] = SpecHash(comp)
	}
	if o.bytes += len(s.Body); o.intents == nil || o.bytes > openedBytesMax {
		o.intents, o.bytes = map[string]openedIntent{}, len(s.Body)
	}
	o.intents[string(s.Body)] = e
	return e
}

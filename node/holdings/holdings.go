package holdings

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// Table is the name of the replicated table.
	Table = "holdings"
	// Context separates the signatures of records from all others of a peer's key.
	Context = "hansa holdings 1"
	// publishEvery is the least time between two records of one peer.
	publishEvery = 2 * time.Second
	// lookEvery is how often it is looked what is here, told or not.
	lookEvery = time.Minute
	// Limits of the table: what everybody may make this peer remember.
	keysMax  = 1 << 14
	bytesMax = 128 << 20
)

// Config is what holdings are given.
type Config struct {
	Self   string
	Sign   func(body []byte) []byte
	Verify func(placement.Signed) error
	// List is what this peer holds now, the most important first: only BlobsMax
	// are told.
	List func() ([]string, error)
	// Changed is told what a peer says that it holds, sorted, in the order in which
	// it says so. It must not block. May be nil.
	Changed func(peer string, prefixes []uint32)
	Log     *slog.Logger
}

// Holdings is what all peers say that they hold.
type Holdings struct {
	cfg   Config
	table *table.Replica
	poke  chan struct{}

	mu    sync.Mutex // guards what follows
	peers map[string][]uint32
	more  map[string]bool // holds files beyond those
}

// New makes holdings; Open is to be called before all else.
func New(cfg Config) *Holdings {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Holdings{cfg: cfg, poke: make(chan struct{}, 1), peers: map[string][]uint32{}, more: map[string]bool{}}
}

// TableConfig is the table that Open wants.
func (h *Holdings) TableConfig() table.Config {
	return table.Config{Name: Table, Check: h.check, ValueMax: recordMax, KeysMax: keysMax, BytesMax: bytesMax}
}

// Open takes the table and reads what it holds. Whoever wants to hear of that, too,
// calls Tell.
func (h *Holdings) Open(t *table.Replica) {
	h.table = t
	t.Range("", func(key string, _ []byte) bool { h.read(strings.Clone(key)); return true })
	t.OnChange(func(keys []string) {
		for _, key := range keys {
			h.read(key)
			h.tell(key)
		}
	})
}

// Tell calls Changed for all peers of which something is known.
func (h *Holdings) Tell() {
	for _, peer := range h.Peers() {
		h.tell(peer)
	}
}

func (h *Holdings) tell(peer string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cfg.Changed != nil {
		h.cfg.Changed(peer, h.peers[peer])
	}
}

// check takes a record only from the peer that it is about.
func (h *Holdings) check(key string, value []byte) error {
	s, err := signed(value)
	if err != nil {
		return err
	}
	if string(s.By) != key {
		return fmt.Errorf("%w: %s says what %.64q holds", errForm, s.By, key)
	}
	if err := h.cfg.Verify(s); err != nil {
		return err
	}
	_, _, err = decode(s.Body)
	return err
}

func signed(value []byte) (placement.Signed, error) {
	var s placement.Signed
	if err := cbor.Unmarshal(value, &s); err != nil {
		return s, fmt.Errorf("%w: %w", errForm, err)
	}
	return s, nil
}

// read takes what the table says of a peer now.
func (h *Holdings) read(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var prefixes []uint32
	more := false
	if value, ok := h.table.Get(key); ok {
		if s, err := signed(value); err == nil {
			prefixes, more, _ = decode(s.Body) // what does not read was not taken
		}
	}
	if h.peers[key] = prefixes; len(prefixes) == 0 {
		delete(h.peers, key)
	}
	if h.more[key] = more; !more {
		delete(h.more, key)
	}
}

// Holders are the peers that say that they hold a file, this one included, sorted;
// and those that may, since they hold more than they say.
func (h *Holdings) Holders(digest string) (holders, perhaps []string) {
	p, ok := Prefix(digest)
	if !ok {
		return nil, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for peer, prefixes := range h.peers {
		if _, has := slices.BinarySearch(prefixes, p); has {
			holders = append(holders, peer)
		} else if h.more[peer] {
			perhaps = append(perhaps, peer)
		}
	}
	slices.Sort(holders)
	slices.Sort(perhaps)
	return holders, perhaps
}

// Counts are how many peers said what they hold, and how many files that are.
func (h *Holdings) Counts() (peers, files int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, prefixes := range h.peers {
		files += len(prefixes)
	}
	return len(h.peers), files
}

// Peers are those of which something is known, sorted.
func (h *Holdings) Peers() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.peers))
}

// Forget drops what a peer said that was shut out.
func (h *Holdings) Forget(ctx context.Context, peer string) error {
	_, err := h.table.Remove(ctx, peer)
	return err
}

// Poke says that what is here has changed.
func (h *Holdings) Poke() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

// Run publishes what this peer holds until ctx ends.
func (h *Holdings) Run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		if err := h.publish(ctx); err != nil && ctx.Err() == nil {
			h.cfg.Log.Warn("what this peer holds is not told; it is tried again", "err", err)
		}
		select { // what changes meanwhile goes into one record
		case <-ctx.Done():
			return nil
		case <-time.After(publishEvery):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		case <-h.poke:
		}
	}
}

// publish writes this peer's record if it is to change.
func (h *Holdings) publish(ctx context.Context) error {
	digests, err := h.cfg.List()
	if err != nil {
		return err
	}
	prefixes, more := Prefixes(digests)
	body, err := encode(prefixes, more)
	if err != nil {
		return err
	}
	if siblings := h.table.Siblings(h.cfg.Self); len(siblings) == 1 {
		if s, err := signed(siblings[0].Value); err == nil && bytes.Equal(s.Body, body) {
			return nil
		}
	} else if len(siblings) == 0 && len(prefixes) == 0 {
		return nil
	}
	value, err := cbor.Marshal(placement.Signed{By: placement.PeerID(h.cfg.Self), Body: body, Sig: h.cfg.Sign(body)})
	if err != nil {
		return err
	}
	return h.table.Put(ctx, h.cfg.Self, value)
}

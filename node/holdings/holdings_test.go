package holdings

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

// noLog keeps nothing: what these tests write need not outlive them.
type noLog struct{}

func (noLog) Load(func(string, []byte) error) error      { return nil }
func (noLog) Apply(context.Context, []table.Write) error { return nil }

func sign(by string, body []byte) []byte {
	sum := sha256.Sum256(append([]byte(by+"/"), body...))
	return sum[:]
}

func verify(s placement.Signed) error {
	if !bytes.Equal(s.Sig, sign(string(s.By), s.Body)) {
		return errors.New("the signature is wrong")
	}
	return nil
}

// peer is one with holdings; what it writes goes to all of peers.
type peer struct {
	*Holdings
	id      string
	replica *table.Replica
	mu      sync.Mutex // guards what follows
	files   []string
	writes  int
	heard   map[string][]uint32
}

func newPeers(t *testing.T, ids ...string) []*peer {
	t.Helper()
	var peers []*peer
	for _, id := range ids {
		p := &peer{id: id, heard: map[string][]uint32{}}
		p.Holdings = New(Config{
			Self: id, Sign: func(body []byte) []byte { return sign(id, body) }, Verify: verify,
			List: func() ([]string, error) {
				p.mu.Lock()
				defer p.mu.Unlock()
				return slices.Clone(p.files), nil
			},
			Changed: func(of string, prefixes []uint32) { p.heard[of] = prefixes },
		})
		cfg := p.TableConfig()
		cfg.Name, cfg.Self, cfg.Incarnation = Table, id, 1
		var err error
		p.replica, err = table.Open(table.ReplicaConfig{Table: cfg, Log: noLog{}})
		if err != nil {
			t.Fatal(err)
		}
		p.Open(p.replica)
		peers = append(peers, p)
	}
	for _, p := range peers {
		p.replica.SetPublish(func(rumour []byte) {
			p.mu.Lock()
			p.writes++
			p.mu.Unlock()
			for _, other := range peers {
				if other != p {
					_ = other.replica.Apply(context.Background(), rumour)
				}
			}
		})
	}
	return peers
}

func digest(i int) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(fmt.Sprint(i)))) }

func TestHoldersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := newPeers(t, "a", "b", "c")
		peers[0].files = []string{digest(1), digest(2)}
		peers[1].files = []string{digest(2), "sha512:" + digest(3)[len("sha256:"):]}
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for _, p := range peers {
			work.Go(func() { _ = p.Run(ctx) })
		}
		synctest.Wait()
		for _, p := range peers {
			for d, want := range map[string][]string{digest(1): {"a"}, digest(2): {"a", "b"}, digest(4): nil, "nonsense": nil} {
				if got, perhaps := p.Holders(d); !slices.Equal(got, want) || perhaps != nil {
					t.Errorf("%s: %.20s is held by %v, perhaps %v; want %v", p.id, d, got, perhaps, want)
				}
			}
		}
		if want, _ := Prefixes(peers[0].files); !slices.Equal(peers[2].heard["a"], want) {
			t.Errorf("c heard of a %v; want %v", peers[2].heard["a"], want)
		}

		// A hundred changes in a second become one record.
		before := peers[0].writes
		for i := range 100 {
			peers[0].mu.Lock()
			peers[0].files = append(peers[0].files, digest(100+i))
			peers[0].mu.Unlock()
			peers[0].Poke()
			time.Sleep(10 * time.Millisecond) // of virtual time
		}
		time.Sleep(2 * publishEvery)
		synctest.Wait()
		if n := peers[0].writes - before; n < 1 || n > 2 {
			t.Errorf("100 changes became %d records", n)
		}
		if got, _ := peers[2].Holders(digest(199)); !slices.Equal(got, []string{"a"}) {
			t.Errorf("the last change is not told: %v", got)
		}
		if err := peers[1].Forget(ctx, "a"); err != nil {
			t.Error(err)
		}
		if got, _ := peers[2].Holders(digest(199)); got != nil {
			t.Errorf("what was shut out is still a holder: %v", got)
		}
		cancel()
		work.Wait()
	})
}

func TestMoreThanARecordTakes(t *testing.T) {
	peers := newPeers(t, "a", "b")
	for i := range BlobsMax + 10 {
		peers[0].files = append(peers[0].files, digest(i))
	}
	if err := peers[0].publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := peers[1].Holders(digest(0)); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the first is held by %v", got)
	}
	if got, perhaps := peers[1].Holders(digest(BlobsMax + 9)); got != nil || !slices.Equal(perhaps, []string{"a"}) {
		t.Errorf("the last is held by %v, perhaps by %v; want perhaps by a", got, perhaps)
	}
}

func TestOnlyAPeerItselfSaysWhatItHolds(t *testing.T) {
	peers := newPeers(t, "a", "liar")
	body, err := encode([]uint32{1}, false)
	if err != nil {
		t.Fatal(err)
	}
	record := func(by string, body, sig []byte) []byte {
		value, err := cbor.Marshal(placement.Signed{By: placement.PeerID(by), Body: body, Sig: sig})
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	bad, err := cbor.Marshal(map[string]any{"a": 1, "b": []byte{5, 0}}) // twice the same
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string][]byte{
		"another's signature": record("a", body, sign("liar", body)),
		"about another":       record("liar", body, sign("liar", body)),
		"bad form":            record("a", bad, sign("a", bad)),
		"no record":           []byte("hello"),
	} {
		if err := peers[0].check("a", value); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := peers[0].check("a", record("a", body, sign("a", body))); err != nil {
		t.Errorf("its own: %v", err)
	}
}

func TestEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfNDistinct(rapid.Uint32(), 0, 500, rapid.ID).Draw(t, "prefixes")
		slices.Sort(in)
		more := rapid.Bool().Draw(t, "more")
		data, err := encode(in, more)
		if err != nil {
			t.Fatal(err)
		}
		out, gotMore, err := decode(data)
		if err != nil || !slices.Equal(in, out) || gotMore != more {
			t.Fatalf("%v, %v became %v, %v, %v", in, more, out, gotMore, err)
		}
	})
}

// The size that the documentation gives.
func TestRecordIsSmall(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[uint32]bool{}
	for len(seen) < BlobsMax {
		seen[r.Uint32()] = true
	}
	var in []uint32
	for p := range seen {
		in = append(in, p)
	}
	slices.Sort(in)
	data, err := encode(in, false)
	if err != nil || len(data) > 13<<10 {
		t.Errorf("%d files take %d bytes, %v", len(in), len(data), err)
	}
}

func FuzzDecode(f *testing.F) {
	data, err := encode([]uint32{0, 1, 1<<32 - 1}, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, data []byte) {
		prefixes, _, err := decode(data)
		if err != nil {
			return
		}
		if len(prefixes) > BlobsMax || !slices.IsSorted(prefixes) {
			t.Fatalf("%d prefixes, sorted %v", len(prefixes), slices.IsSorted(prefixes))
		}
	})
}

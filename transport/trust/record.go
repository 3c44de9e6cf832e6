package trust

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/hansa-mesh/hansa/transport/identity"
)

// Limits of a record.
const (
	// RecordMax bounds one record, in bytes. Only a revocation may be as large:
	// it lists whom the revoked peer had let in, some 2,300 at most.
	RecordMax      = 64 << 10
	smallRecordMax = 2 << 10 // an admission or a spent invitation
	knewMax        = 4096
	labelMax       = 253 // bytes of a name or a site
	tokenIDMax     = 64
)

// signContext separates the signatures of trust from all others.
const signContext = "hansa trust 1"

// The kinds of record.
const (
	kindAdmission  = "admission"
	kindRevocation = "revocation"
	kindSpent      = "spent"
)

var (
	encoder = must(cbor.CoreDetEncOptions().EncMode())
	decoder = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 8, MaxArrayElements: knewMax, MaxMapPairs: 64,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // constant options
	}
	return v
}

// ErrInvalid says that something is no record, or that its signature is wrong.
var ErrInvalid = errors.New("invalid trust record")

// Admission lets a key into the mesh.
type Admission struct {
	Key   []byte `json:"key"` // Ed25519 public key
	Name  string `json:"name"`
	Site  string `json:"site"`
	By    string `json:"by"`              // id of the peer that let it in; the root's for the first
	Token string `json:"token,omitempty"` // id of the invitation
	At    int64  `json:"at"`              // Unix seconds; see replaces
}

// ID is the id of the admitted key.
func (a Admission) ID() string { return identity.IDOf(a.Key) }

// Revocation shuts a peer out, for good.
type Revocation struct {
	Peer string `json:"peer"`
	By   string `json:"by"`
	At   int64  `json:"at"` // Unix seconds, for show
	// Knew are the peers that the revoked one had let in as far as the revoker
	// knew (Set.AdmittedBy): those stay, unless WithAdmitted; any other
	// admission by that key is refused.
	Knew         []string `json:"knew,omitempty"`
	WithAdmitted bool     `json:"with_admitted,omitempty"`
}

// Spent says that an invitation was redeemed.
type Spent struct {
	Token string `json:"token"` // its id
	Peer  string `json:"peer"`  // who came in with it
	By    string `json:"by"`    // who let it in
}

// signed is a record on the wire. It has one encoding, so that nobody can make
// another record of it; what the body says beyond what is known here survives.
type signed struct {
	Kind string `json:"kind"`
	By   string `json:"by"`
	Body []byte `json:"body"`
	Sig  []byte `json:"sig"`
}

func seal(kind string, by *identity.Identity, body any) ([]byte, error) {
	b, err := encoder.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("trust: %s: %w", kind, err)
	}
	raw, err := encoder.Marshal(signed{Kind: kind, By: by.ID(), Body: b, Sig: by.SignFor(signContext+" "+kind, b)})
	if err == nil {
		_, err = parse(raw) // nobody would take what this refuses
	}
	if err != nil {
		return nil, fmt.Errorf("trust: %s: %w", kind, err)
	}
	return raw, nil
}

// Admit makes an admission; By is filled in.
func Admit(by *identity.Identity, a Admission) ([]byte, error) {
	a.By = by.ID()
	return seal(kindAdmission, by, a)
}

// Revoke makes a revocation; By is filled in.
func Revoke(by *identity.Identity, r Revocation) ([]byte, error) {
	r.By = by.ID()
	return seal(kindRevocation, by, r)
}

// Spend makes the record of a redeemed invitation; By is filled in.
func Spend(by *identity.Identity, s Spent) ([]byte, error) {
	s.By = by.ID()
	return seal(kindSpent, by, s)
}

// record is a parsed record.
type record struct {
	raw  []byte
	kind string
	by   string
	body []byte
	sig  []byte
	// One of them, by kind.
	admit Admission
	revok Revocation
	spent Spent
}

// about is the peer that a record speaks of.
func (r *record) about() string {
	switch r.kind {
	case kindAdmission:
		return r.admit.ID()
	case kindRevocation:
		return r.revok.Peer
	default:
		return r.spent.Peer
	}
}

func (r *record) key() string {
	switch r.kind {
	case kindAdmission:
		return kindAdmission + "/" + r.about()
	case kindRevocation:
		return kindRevocation + "/" + r.about() + "/" + r.by
	default:
		return kindSpent + "/" + r.spent.Token + "/" + r.about()
	}
}

func parse(raw []byte) (*record, error) {
	if len(raw) > RecordMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(raw), RecordMax)
	}
	var s signed
	if err := decoder.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if again, err := encoder.Marshal(s); err != nil || !bytes.Equal(again, raw) {
		return nil, fmt.Errorf("%w: not in the one encoding", ErrInvalid)
	}
	if s.Kind != kindRevocation && len(raw) > smallRecordMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(raw), smallRecordMax)
	}
	r := &record{raw: bytes.Clone(raw), kind: s.Kind, by: s.By, body: s.Body, sig: s.Sig}
	if err := r.read(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return r, nil
}

// read takes the body apart and checks its form.
func (r *record) read() error {
	var err error
	var by string
	switch r.kind {
	case kindAdmission:
		if err = decoder.Unmarshal(r.body, &r.admit); err == nil {
			by, err = r.admit.By, r.admit.check()
		}
	case kindRevocation:
		if err = decoder.Unmarshal(r.body, &r.revok); err == nil {
			by, err = r.revok.By, r.revok.check()
		}
	case kindSpent:
		if err = decoder.Unmarshal(r.body, &r.spent); err == nil {
			by, err = r.spent.By, r.spent.check()
		}
	default:
		err = fmt.Errorf("of kind %.32q", r.kind)
	}
	switch {
	case err != nil:
		return err
	case by != r.by:
		return errors.New("it names two makers")
	case !identity.ValidID(by):
		return fmt.Errorf("its maker %.64q is no peer's id", by)
	}
	return nil
}

func (a Admission) check() error {
	if len(a.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("a key of %d bytes", len(a.Key))
	}
	if len(a.Name) > labelMax || len(a.Site) > labelMax || len(a.Token) > tokenIDMax {
		return fmt.Errorf("a name or site of over %d bytes", labelMax)
	}
	return nil
}

func (v Revocation) check() error {
	for _, id := range append([]string{v.Peer}, v.Knew...) {
		if !identity.ValidID(id) {
			return fmt.Errorf("%.64q is no peer's id", id)
		}
	}
	return nil
}

func (s Spent) check() error {
	if s.Token == "" || len(s.Token) > tokenIDMax || strings.Contains(s.Token, "/") {
		return fmt.Errorf("%.64q is no invitation's id", s.Token)
	}
	if !identity.ValidID(s.Peer) {
		return fmt.Errorf("%.64q is no peer's id", s.Peer)
	}
	return nil
}

// replaces says which of two records of one maker about one thing counts: the
// same one everywhere, whatever their order. Its later word about a peer that
// it let in; of revocations the stricter, as nothing takes one back.
func (r *record) replaces(old *record) bool {
	switch r.kind {
	case kindAdmission:
		if r.admit.At != old.admit.At {
			return r.admit.At > old.admit.At
		}
	case kindRevocation:
		if r.revok.WithAdmitted != old.revok.WithAdmitted {
			return r.revok.WithAdmitted
		}
		if len(r.revok.Knew) != len(old.revok.Knew) {
			return len(r.revok.Knew) < len(old.revok.Knew)
		}
	}
	return bytes.Compare(r.raw, old.raw) < 0
}

// RecordKey is the key of a record in a table: what it is about, and for
// revocations and spent invitations whose word it is.
func RecordKey(raw []byte) (string, error) {
	r, err := parse(raw)
	if err != nil {
		return "", err
	}
	return r.key(), nil
}

package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// KeyFile holds the private key, PKCS #8 in PEM.
const KeyFile = "key.pem"

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Identity is a peer's key pair.
type Identity struct {
	key  ed25519.PrivateKey
	id   string
	cert tls.Certificate
}

// IDOf is the id of a public key: 26 characters.
func IDOf(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return encoding.EncodeToString(sum[:16])
}

// New makes an identity.
func New() (*Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return from(key)
}

func from(key ed25519.PrivateKey) (*Identity, error) {
	i := &Identity{key: key, id: IDOf(key.Public().(ed25519.PublicKey))}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: i.id},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("identity: certificate: %w", err)
	}
	i.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return i, nil
}

// Load reads the identity that Save wrote into a folder; the error wraps
// os.ErrNotExist when there is none.
func Load(dir string) (*Identity, error) {
	path := filepath.Join(dir, KeyFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("identity: %s is not a PEM file", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("identity: %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("identity: %s holds a %T, not an Ed25519 key", path, parsed)
	}
	return from(key)
}

// LoadOrNew loads the identity of a folder, or makes and saves one.
func LoadOrNew(dir string) (*Identity, error) {
	i, err := Load(dir)
	if !errors.Is(err, os.ErrNotExist) {
		return i, err
	}
	if i, err = New(); err != nil {
		return nil, err
	}
	return i, i.Save(dir)
}

// Save writes the key, readable by its owner alone, durable on return.
func (i *Identity) Save(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	file, err := os.CreateTemp(dir, KeyFile+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	defer os.Remove(file.Name()) // gone after the rename
	err = pem.Encode(file, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if err := os.Rename(file.Name(), filepath.Join(dir, KeyFile)); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	defer folder.Close()
	return folder.Sync()
}

// ID is the peer's id.
func (i *Identity) ID() string { return i.id }

// Public is the public key.
func (i *Identity) Public() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) }

// Signer signs with the key.
func (i *Identity) Signer() crypto.Signer { return i.key }

// Certificate is for TLS, with the private key.
func (i *Identity) Certificate() tls.Certificate { return i.cert }

// SignFor signs a message within a context, so that a signature that was made
// for one purpose is good for no other.
func (i *Identity) SignFor(context string, message []byte) []byte {
	return ed25519.Sign(i.key, contextual(context, message))
}

// VerifyFor checks what SignFor made.
func VerifyFor(public ed25519.PublicKey, context string, message, signature []byte) bool {
	return len(public) == ed25519.PublicKeySize && ed25519.Verify(public, contextual(context, message), signature)
}

func contextual(context string, message []byte) []byte {
	return append(append([]byte(context), 0), message...)
}

// ResetKey is the key of QUIC's stateless resets. It must be the same after a
// restart: without it a peer that restarts on its port is unreachable until
// the others' connections time out.
func (i *Identity) ResetKey() [32]byte {
	key, err := hkdf.Key(sha256.New, i.key.Seed(), nil, "hansa quic stateless reset", 32)
	if err != nil {
		panic("identity: hkdf: " + err.Error()) // the length is a constant
	}
	return [32]byte(key)
}

// idLength is the length of an id: 16 bytes in base32.
const idLength = 26

// ValidID says whether a text has the form of a peer's id.
func ValidID(id string) bool {
	if len(id) != idLength {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

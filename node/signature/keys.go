package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// Kinds of PEM blocks that hold keys.
const (
	pemPublic   = "PUBLIC KEY"
	pemPrivate  = "PRIVATE KEY" // PKCS #8
	pemEC       = "EC PRIVATE KEY"
	pemRSA      = "RSA PRIVATE KEY"
	pemSigstore = "ENCRYPTED SIGSTORE PRIVATE KEY" // PKCS #8, as cosign encrypts it
	pemCosign   = "ENCRYPTED COSIGN PRIVATE KEY"   // the same, of older releases
)

const (
	// KeyFileMax bounds the file of a key.
	KeyFileMax = 64 << 10
	// rsaBitsMin is the shortest RSA key that is taken.
	rsaBitsMin = 2048
)

// Errors about keys.
var (
	ErrKey      = errors.New("not a key that can be used")
	ErrPassword = errors.New("the password does not open it")
)

// Encrypted says whether a password opens the key file.
func Encrypted(file []byte) bool {
	block, _ := pem.Decode(file)
	return block != nil && (block.Type == pemSigstore || block.Type == pemCosign)
}

// ParsePrivate reads a private key: of cosign, which a password opens, or in PEM
// as PKCS #8, SEC 1 or PKCS #1, without one. No error holds any of it.
func ParsePrivate(file, password []byte) (crypto.Signer, error) {
	if len(file) > KeyFileMax {
		return nil, fmt.Errorf("%w: the file has %d bytes, at most %d", ErrKey, len(file), KeyFileMax)
	}
	block, _ := pem.Decode(file)
	if block == nil {
		return nil, fmt.Errorf("%w: it is not in PEM: `hansa keys generate` or `cosign generate-key-pair` makes one", ErrKey)
	}
	var key any
	var err error
	switch block.Type {
	case pemSigstore, pemCosign:
		plain, openErr := encrypted.Decrypt(block.Bytes, password)
		if openErr != nil { // whose text tells no more
			return nil, ErrPassword
		}
		defer clear(plain)
		key, err = x509.ParsePKCS8PrivateKey(plain)
	case pemPrivate:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case pemEC:
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case pemRSA:
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case pemPublic:
		return nil, fmt.Errorf("%w: it is a public key: the private one signs", ErrKey)
	default:
		return nil, fmt.Errorf("%w: PEM of kind %.40q", ErrKey, block.Type)
	}
	if err != nil { // whose text may show what was read
		return nil, fmt.Errorf("%w: the file is damaged", ErrKey)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: a key of kind %T does not sign", ErrKey, key)
	}
	return signer, usable(signer.Public())
}

// ParsePublic reads a public key in PEM.
func ParsePublic(file []byte) (crypto.PublicKey, error) {
	if len(file) > KeyFileMax {
		return nil, fmt.Errorf("%w: the file has %d bytes, at most %d", ErrKey, len(file), KeyFileMax)
	}
	block, _ := pem.Decode(file)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%w: it is not in PEM", ErrKey)
	case block.Type != pemPublic:
		return nil, fmt.Errorf("%w: PEM of kind %.40q: a public key is wanted", ErrKey, block.Type)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return key, usable(key)
}

// usable says why signatures of a key are not understood here, or nil.
func usable(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if k.N.BitLen() < rsaBitsMin {
			return fmt.Errorf("%w: RSA of %d bits, at least %d", ErrKey, k.N.BitLen(), rsaBitsMin)
		}
		return nil
	}
	return fmt.Errorf("%w: keys of kind %T are not understood: ECDSA, Ed25519 and RSA are", ErrKey, key)
}

// EncodePublic is a public key in PEM.
func EncodePublic(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der}), nil
}

// Generate makes a key pair as cosign does: ECDSA over P-256, the private key
// encrypted by the password, which may be empty.
func Generate(password []byte) (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	defer clear(der)
	sealed, err := encrypted.Encrypt(der, password)
	if err != nil {
		return nil, nil, err
	}
	public, err = EncodePublic(&key.PublicKey)
	return pem.EncodeToMemory(&pem.Block{Type: pemSigstore, Bytes: sealed}), public, err
}

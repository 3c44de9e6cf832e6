package cli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hansa-mesh/hansa/node/pack"
	"github.com/hansa-mesh/hansa/node/signature"
)

// passwordVar holds the password of a key file, as for cosign.
const passwordVar = "COSIGN_PASSWORD"

// Signed is the answer of hansa sign and verify.
type Signed struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Signed bool   `json:"signed"`          // by the key
	Added  bool   `json:"added,omitempty"` // now; false when the key had signed it before
}

func (s *session) signVerb() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use: "sign NAME:TAG --key FILE", Short: "Signs an image or a package",
		Long: `Signs an image or a package of the mesh's registry, or of another, with a private
key: one that hansa keys generate or cosign made, or any in PEM (PKCS #8). What is
signed is the digest that the name stands for, and the name without its tag. Signatures
are kept beside the image as cosign keeps them, so that either checks what the other
made. The key's password is taken from ` + passwordVar + `, or asked for.

Examples:
  hansa sign shop:1.4 --key hansa.key
  hansa sign shop/api@sha256:… --key hansa.key
  hansa push shop.tar --sign hansa.key`,
		Args: takes(1, 1, "the name of an image or a package"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := s.toCheck(args[0], key)
			if err != nil {
				return err
			}
			signer, err := s.signer(key)
			if err != nil {
				return err
			}
			at, m, err := s.named(cmd.Context(), ref)
			if err != nil {
				return err
			}
			added, err := pack.Sign(cmd.Context(), signer, at, ref, m.Descriptor.Digest)
			if err != nil {
				return err
			}
			return s.print(Signed{ref.String(), string(m.Descriptor.Digest), true, added}, func(w io.Writer) error {
				text := "signed"
				if !added {
					text = "was signed by this key already:"
				}
				_, err := fmt.Fprintf(w, "%s %s\n", text, ref.Pin(m.Descriptor.Digest))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the file of the private key")
	return cmd
}

func (s *session) verifyVerb() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use: "verify NAME:TAG --key FILE", Short: "Checks that an image or a package was signed",
		Long: `Checks that an image or a package was signed by a key: the digest that the name
stands for, in its repository. Exit code 1 when it was not, with what there is instead.

Examples:
  hansa verify shop:1.4 --key hansa.pub
  hansa verify registry.example/shop:1.4 --key cosign.pub`,
		Args: takes(1, 1, "the name of an image or a package"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := s.toCheck(args[0], key)
			if err != nil {
				return err
			}
			file, err := readKeyFile(key)
			if err != nil {
				return err
			}
			public, err := signature.ParsePublic(file)
			if err != nil {
				return fmt.Errorf("key %s: %w", key, err)
			}
			at, m, err := s.named(cmd.Context(), ref)
			if err != nil {
				return err
			}
			found, err := pack.SignaturesOf(cmd.Context(), at, m.Descriptor.Digest)
			if err == nil {
				err = signature.Check(found, subject(ref, m.Descriptor.Digest), []crypto.PublicKey{public})
			}
			if err != nil {
				return fmt.Errorf("%s: %w", ref.Pin(m.Descriptor.Digest), err)
			}
			return s.print(Signed{Name: ref.String(), Digest: string(m.Descriptor.Digest), Signed: true}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is signed by %s\n", ref.Pin(m.Descriptor.Digest), key)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the file of the public key")
	return cmd
}

// toCheck reads what a person wants signed, or checked.
func (s *session) toCheck(name, key string) (pack.Ref, error) {
	ref, err := pack.ParseRef(name)
	if err != nil {
		return ref, usagef("%w", err)
	}
	if key == "" {
		return ref, usagef("--key says with which key: hansa keys generate makes a pair")
	}
	return ref, nil
}

func (s *session) named(ctx context.Context, ref pack.Ref) (pack.Remote, pack.Manifest, error) {
	at, err := s.registry(ref)
	if err != nil {
		return at, pack.Manifest{}, err
	}
	m, err := at.Resolve(ctx, ref)
	return at, m, err
}

func subject(ref pack.Ref, d digest.Digest) signature.Subject {
	return signature.Subject{Repository: pack.Ref{Host: ref.Host, Repository: ref.Repository}.String(), Digest: string(d)}
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, signature.KeyFileMax+1))
}

// signer opens the file of a private key. Nothing of it, and no password, is ever
// shown.
func (s *session) signer(path string) (crypto.Signer, error) {
	file, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(file)
	password := []byte(s.getenv(passwordVar))
	if signature.Encrypted(file) && len(password) == 0 {
		if f, ok := s.io.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			if password, err = s.askPassword(f, "Password of "+path+": "); err != nil {
				return nil, err
			}
		}
	}
	defer clear(password)
	key, err := signature.ParsePrivate(file, password)
	if errors.Is(err, signature.ErrPassword) {
		return nil, fmt.Errorf("key %s: %w: type it at a terminal, or set %s", path, err, passwordVar)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return key, nil
}

func (s *session) askPassword(f *os.File, prompt string) ([]byte, error) {
	fmt.Fprint(s.io.Err, prompt)
	password, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(s.io.Err)
	return password, err
}

// addSign is --sign of the verbs that put something into a registry.
func (s *session) addSign(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.signKey, "sign", "", "sign it with the private key in this file (hansa sign)")
}

// toSign is the key of --sign, or nil without one.
func (s *session) toSign() (crypto.Signer, error) {
	if s.signKey == "" {
		return nil, nil
	}
	return s.signer(s.signKey)
}

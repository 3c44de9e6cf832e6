package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hansa-mesh/hansa/node/signature"
)

// Keys is the answer of hansa keys generate.
type Keys struct {
	Private string `json:"private"`
	Public  string `json:"public"`
}

func (s *session) keysVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "keys", Short: "Keys that sign images and packages",
		Long: `Makes keys that sign images and packages, as cosign does.

Examples:
  hansa keys generate
  hansa keys generate release`,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownChild(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "generate [NAME]", Short: "Makes a pair of keys: NAME.key and NAME.pub",
		Long: `Makes a pair of keys, ECDSA over P-256: NAME.key signs and is encrypted by a password,
which is typed twice or taken from ` + passwordVar + `; NAME.pub is what policies name.
Files that are there are not written over.

Examples:
  hansa keys generate
  hansa keys generate release`,
		Args: takes(0, 1, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			name := "hansa"
			if len(args) > 0 {
				name = args[0]
			}
			return s.generateKeys(name)
		},
	})
	return cmd
}

func (s *session) generateKeys(name string) error {
	out := Keys{name + ".key", name + ".pub"}
	for _, path := range []string{out.Private, out.Public} { // before a password is typed
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is there already: name another pair", path)
		}
	}
	password, err := s.newPassword()
	if err != nil {
		return err
	}
	defer clear(password)
	private, public, err := signature.Generate(password)
	if err != nil {
		return err
	}
	if err := writeNew(out.Private, private, 0o600); err != nil {
		return err
	}
	if err := writeNew(out.Public, public, 0o644); err != nil {
		return errors.Join(err, os.Remove(out.Private))
	}
	return s.print(out, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s signs, and is to be kept secret; %s checks\n", out.Private, out.Public)
		return err
	})
}

// newPassword is what opens a new key.
func (s *session) newPassword() ([]byte, error) {
	if set := s.getenv(passwordVar); set != "" {
		return []byte(set), nil
	}
	f, ok := s.io.In.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, usagef("the password of the new key is typed at a terminal, or set as %s", passwordVar)
	}
	first, err := s.askPassword(f, "Password of the new key: ")
	if err != nil {
		return nil, err
	}
	again, err := s.askPassword(f, "Again: ")
	if err != nil {
		return nil, err
	}
	defer clear(again)
	if !bytes.Equal(first, again) {
		return nil, errors.New("the two passwords differ: no key was made")
	}
	return first, nil
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

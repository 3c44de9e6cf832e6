package cli

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/pack"
)

func (s *session) pushVerb() *cobra.Command {
	var tag, only string
	cmd := &cobra.Command{
		Use: "push FOLDER|FILE.tar|NAME:TAG", Short: "Brings a package or an image into the mesh's registry",
		Long: `Brings a package or an image into the mesh's registry, from a folder or a tar file
with an OCI image layout (hansa pack --output, hansa pull), or from another registry.
Every blob is verified by its digest; what is there already is not sent again. It is
accepted when as many peers hold it as are to. The signatures that it has there, and
those of the images in it, come with it; they hold under the name that was signed.

Examples:
  hansa push shop.tar                          # by the name that it was packed under
  hansa push shop.tar -t shop:1.4
  hansa push shop.tar --sign hansa.key
  hansa push ./images --only 2.0 -t shop/api:2.0
  hansa push registry.example/shop:1.4 -t shop:1.4`,
		Args: takes(1, 1, "a folder, a tar file, or a name in another registry"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if pack.IsLayout(args[0]) {
				return s.pushLayout(cmd.Context(), args[0], only, tag)
			}
			if only != "" {
				return usagef("--only says which of a layout's images: %s is none", args[0])
			}
			return s.pushRemote(cmd.Context(), args[0], tag)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&tag, "tag", "t", "", "its name, NAME:TAG (default the one that it has)")
	flags.StringVar(&only, "only", "", "the tag in the layout, where that holds several")
	s.addSign(cmd)
	return cmd
}

func (s *session) pushLayout(ctx context.Context, path, only, tag string) error {
	l, err := pack.OpenLayout(path)
	if err != nil {
		return err
	}
	defer l.Close()
	root, name, err := l.Root(only)
	if err != nil {
		return err
	}
	if tag == "" {
		tag = name
	}
	if tag == "" {
		return usagef("%s does not say what it is called: name it with -t NAME:TAG", path)
	}
	ref, err := parseName(tag)
	if err != nil {
		return err
	}
	return s.send(ctx, ref, "", func(ctx context.Context, to pack.Target) (pack.Manifest, error) {
		return s.copySigned(ctx, l, root, to, ref)
	})
}

func (s *session) pushRemote(ctx context.Context, name, tag string) error {
	from, err := pack.ParseRef(name)
	if err != nil {
		return fmt.Errorf("%w; nor is there a file of that name", err)
	}
	if tag == "" {
		return usagef("-t NAME:TAG says what %s is to be called here", from)
	}
	ref, err := parseName(tag)
	if err != nil {
		return err
	}
	source, err := s.registry(from)
	if err != nil {
		return err
	}
	return s.send(ctx, ref, "", s.copyOf(source, from, ref))
}

// copyOf copies what a name stands for in a registry, to have another name.
func (s *session) copyOf(source pack.Remote, from, as pack.Ref) func(context.Context, pack.Target) (pack.Manifest, error) {
	return func(ctx context.Context, to pack.Target) (pack.Manifest, error) {
		m, err := source.Resolve(ctx, from)
		if err != nil {
			return m, err
		}
		return s.copySigned(ctx, source, m.Descriptor, to, as)
	}
}

// copySigned copies something and the signatures that it has.
func (s *session) copySigned(ctx context.Context, from pack.Source, root ocispec.Descriptor, to pack.Target, as pack.Ref) (pack.Manifest, error) {
	m, err := pack.Copy(ctx, from, root, to)
	if err != nil {
		return m, err
	}
	signed, err := pack.Carry(ctx, from, root, to, as)
	if signed > 0 {
		s.say("with it: %s of signatures", plural(signed, "image"))
	}
	return m, err
}

func (s *session) pullVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "pull NAME:TAG", Short: "Writes a package or an image to a folder or a tar file",
		Long: `Writes a package or an image of the mesh's registry, or of another, to a folder or a
tar file as an OCI image layout, to be carried where no network goes; hansa push
brings it in there, with the signatures that it has here. A folder is added to: of the
next version only what is new is written.

Examples:
  hansa pull shop:1.4 --output shop.tar
  hansa pull shop@sha256:… --output ./stick
  hansa pull registry.example/shop/api:2.0 --output ./stick`,
		Args: takes(1, 1, "the name of a package or an image"),
	}
	output := s.addOutput(cmd, "the folder, or NAME.tar, to write it to")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ref, err := pack.ParseRef(args[0])
		if err != nil {
			return usagef("%w", err)
		}
		if output.path == "" {
			return usagef("--output says where it is to be written: a folder, or a file whose name ends with .tar")
		}
		source, err := s.registry(ref)
		if err != nil {
			return err
		}
		err = s.send(cmd.Context(), ref, output.path, s.copyOf(source, ref, ref))
		if errors.Is(err, pack.ErrNotFound) {
			return fmt.Errorf("%w (hansa images lists what there is)", err)
		}
		return err
	}
	return cmd
}

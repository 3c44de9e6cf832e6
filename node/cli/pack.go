package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/pack"
	"github.com/hansa-mesh/hansa/placement"
)

// tellEvery is how often a person hears how far packing or copying is.
const tellEvery = 5 * time.Second

// Packed is the answer of hansa pack, push and pull.
type Packed struct {
	Name       string `json:"name"`
	Digest     string `json:"digest"`
	Output     string `json:"output,omitempty"` // where it was written to, if it was
	Sent       int64  `json:"sent"`             // blobs and manifests
	SentBytes  int64  `json:"sent_bytes"`
	There      int64  `json:"there"` // were there already
	ThereBytes int64  `json:"there_bytes"`
}

// outputFlag is --output of the verbs that write files: a format, or where to.
type outputFlag struct {
	s    *session
	path string
}

var formats = []string{"table", "wide", "json", "yaml"}

func (o *outputFlag) Set(value string) error {
	if slices.Contains(formats, value) {
		o.s.output = value
		return nil
	}
	o.path = value
	return nil
}

func (o *outputFlag) String() string { return "" }
func (o *outputFlag) Type() string   { return "string" }

func (s *session) addOutput(cmd *cobra.Command, usage string) *outputFlag {
	o := &outputFlag{s: s}
	cmd.Flags().VarP(o, "output", "o", usage+"; or, as ever, table, json or yaml")
	return o
}

func (s *session) packVerb() *cobra.Command {
	var tag string
	var platforms []string
	cmd := &cobra.Command{
		Use: "pack FILE", Short: "Makes one package of an app in all its forms",
		Long: `Makes a package of the apps that a file describes: their manifest, and all that it
names. It is one OCI index, so that any OCI tool can copy it. By default it goes to
the mesh's registry, from where hansa deploy NAME:TAG runs it at any peer; with
--output it is written to a folder or a tar file, to be carried.

A "./path" is a file beside the manifest. The image of a container is
"./image.tar" or a folder (an OCI layout, or what docker save writes),
"docker-daemon:NAME" of an engine of this machine, or a name: of the mesh's
registry, or else of the registry that it says. Disks of machines are cut into
chunks: of one that was changed a little only a little is sent.

What is there already is not sent again, and so what was interrupted goes on.

Examples:
  hansa pack shop.yaml -t shop:1.4
  hansa pack shop.yaml -t shop:1.4 --platform linux/arm64
  hansa pack shop.yaml -t shop:1.4 --output shop.tar
  hansa pack shop.yaml -t registry.example/shop:1.4`,
		Args:              takes(1, 1, "a manifest"),
		ValidArgsFunction: manifestFiles,
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&tag, "tag", "t", "", "name of the package: NAME:TAG, or HOST/NAME:TAG of another registry")
	output := s.addOutput(cmd, "write it to this folder, or NAME.tar")
	flags.StringSliceVar(&platforms, "platform", nil, "only these of the images, as linux/arm64 (default all)")
	s.addSign(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		apps, err := s.readApps(args[0])
		if err != nil {
			return err
		}
		if tag == "" {
			return usagef("-t NAME:TAG says what the package is called, for instance -t %s:1.0", apps[0].Name)
		}
		ref, err := parseName(tag)
		if err != nil {
			return err
		}
		o := pack.Options{Dir: filepath.Dir(args[0]), Name: ref, Platforms: platforms, Say: s.sayPart()}
		finder := pack.Finder{Dir: o.Dir, Registry: func(ref pack.Ref) (pack.Remote, error) { return s.imageRegistry(cmd.Context(), ref) }}
		o.Find = finder.Find
		return s.send(cmd.Context(), ref, output.path, func(ctx context.Context, to pack.Target) (pack.Manifest, error) {
			return pack.Build(ctx, apps, to, o)
		})
	}
	return cmd
}

// parseName is a name that a person gives.
func parseName(text string) (pack.Ref, error) {
	ref, err := pack.ParseRef(text)
	if err == nil && ref.Digest != "" {
		err = fmt.Errorf("%q: a digest is what comes of it: name a tag", text)
	}
	if err != nil {
		return ref, &api.Usage{Err: err}
	}
	return ref, nil
}

// readApps reads the apps of a manifest whose files are yet to be packed.
func (s *session) readApps(name string) ([]placement.App, error) {
	data, err := s.readManifest(name)
	if err != nil {
		return nil, err
	}
	apps, err := api.ParseManifests(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, api.NewProblem(err))
	}
	for _, app := range apps {
		if err := pack.Check(app); err != nil { // told before anything is sent
			return nil, fmt.Errorf("%s: app %s: %w", name, app.Name, api.NewProblem(err))
		}
	}
	return apps, nil
}

// registry is where a name is: at the peer, or at the registry that it says.
func (s *session) registry(ref pack.Ref) (pack.Remote, error) {
	if ref.Host != "" {
		return pack.Upstream(ref)
	}
	c, err := s.client()
	if err != nil {
		return pack.Remote{}, err
	}
	at, err := pack.Peer(c.Registry())
	if err != nil {
		return pack.Remote{}, err
	}
	return at(ref)
}

// imageRegistry is where an image is that a manifest names: in the mesh, if it is
// there, and else where everybody means it to be.
func (s *session) imageRegistry(ctx context.Context, ref pack.Ref) (pack.Remote, error) {
	if ref.Host == "" {
		if at, err := s.registry(ref); err == nil {
			if _, err := at.Resolve(ctx, ref); err == nil {
				return at, nil
			}
		}
	}
	return pack.Upstream(ref)
}

// send makes something at where it is to go, names it there and says so.
func (s *session) send(ctx context.Context, ref pack.Ref, path string, fill func(context.Context, pack.Target) (pack.Manifest, error)) error {
	key, err := s.toSign() // before anything is sent
	if err != nil {
		return err
	}
	to, finish, discard, err := s.target(ref, path)
	if err != nil {
		return err
	}
	defer discard()
	counted := pack.Count(to)
	done := "sent"
	if path != "" {
		done = "written"
	}
	quiet := s.tellSent(counted, done)
	m, err := fill(ctx, counted)
	quiet()
	if err == nil && key != nil { // before the tag is there, so that nobody finds it unsigned
		_, err = pack.Sign(ctx, key, to, ref, m.Descriptor.Digest)
	}
	if err == nil {
		err = to.Tag(ctx, m.Descriptor, m.Data, ref)
	}
	if err == nil {
		err = finish()
	}
	if err != nil {
		if strings.HasPrefix(err.Error(), ref.String()+":") {
			return err // it says already what it is about
		}
		return fmt.Errorf("%s: %w", ref, err)
	}
	packed := Packed{
		Name: ref.String(), Digest: string(m.Descriptor.Digest), Output: path, Sent: counted.Sent.Load(), SentBytes: counted.SentBytes.Load(),
		There: counted.There.Load(), ThereBytes: counted.ThereBytes.Load(),
	}
	return s.print(packed, func(w io.Writer) error {
		s.say("%s %s, %s; %s %s there already", plural(int(packed.Sent), "blob"), done, size(packed.SentBytes), plural(int(packed.There), "blob"), wasWere(packed.There))
		if path != "" {
			_, err := fmt.Fprintf(w, "%s holds %s@%s\n", path, packed.Name, packed.Digest)
			return err
		}
		_, err := fmt.Fprintf(w, "%s@%s\n", packed.Name, packed.Digest)
		return err
	})
}

func wasWere(n int64) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// target is a layout to write, or else a registry.
func (s *session) target(ref pack.Ref, path string) (to pack.Target, finish func() error, discard func(), err error) {
	if path != "" {
		w, err := pack.CreateLayout(path)
		if err != nil {
			return nil, nil, nil, err
		}
		return w, w.Close, w.Discard, nil
	}
	at, err := s.registry(ref)
	return at, func() error { return nil }, func() {}, err
}

// sayPart says what is being packed, each once.
func (s *session) sayPart() func(what string, done, whole int64) {
	last := ""
	return func(what string, done, whole int64) {
		switch {
		case what == last:
		case whole > 1:
			s.say("packing %s, %s", clean(what), size(whole))
		default:
			s.say("packing %s", clean(what))
		}
		last = what
	}
}

// tellSent says now and then how much is done, until it is called off.
func (s *session) tellSent(c *pack.Counted, done string) (quiet func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		last := ""
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				text := fmt.Sprintf("%s %s so far, %s were there already", size(c.SentBytes.Load()), done, size(c.ThereBytes.Load()))
				if text != last { // a registry may take long to acknowledge what it has
					s.say("%s", text)
				}
				last = text
			}
		}
	}()
	return func() {
		close(stop)
		<-ended
	}
}

// packageName says whether what is to be deployed is the name of a package, and
// not of a file.
func packageName(name string) (pack.Ref, bool) {
	if name == "-" || pack.IsLocal(name) || slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))) {
		return pack.Ref{}, false
	}
	if _, err := os.Stat(name); err == nil {
		return pack.Ref{}, false
	}
	ref, err := pack.ParseRef(name)
	return ref, err == nil
}

// readPackage reads the apps of a package in the mesh's registry.
func (s *session) readPackage(ctx context.Context, c *api.Client, ref pack.Ref) ([]document, error) {
	if ref.Host != "" {
		return nil, fmt.Errorf("%s is in another registry: bring it into the mesh first: hansa push %s -t %s:%s", ref, ref, ref.Repository, orDash(ref.Tag))
	}
	at, err := s.registry(ref)
	if err != nil {
		return nil, err
	}
	m, err := at.Resolve(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("package %w (hansa images lists what there is; a manifest is named by its file, as ./%s.yaml)", err, filepath.Base(ref.Repository))
	}
	p, err := pack.Read(ctx, at, m)
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", ref, err)
	}
	from := ref.Pin(m.Descriptor.Digest)
	s.say("%s is %s", ref, m.Descriptor.Digest)
	var docs []document
	for _, app := range p.Deploy(from) {
		if app.Namespace == "" {
			app.Namespace = s.namespace
		}
		if err := app.Validate(); err != nil {
			return nil, fmt.Errorf("package %s: app %s: %w", ref, app.Name, api.NewProblem(err))
		}
		docs = append(docs, document{app: app, from: ref.String(), unfold: func(ctx context.Context) error { return p.Unfold(ctx, at) }})
	}
	return docs, nil
}

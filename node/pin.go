package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/upstream"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// pinMax is how long a deploy waits for what its images stand for. A pull that
	// takes longer goes on.
	pinMax = 12 * time.Second
	// pinsMax is how many images of an app are looked for at once.
	pinsMax = 4
)

// pins is an app with each image by the digest that its name stands for now: what
// runs stays that, wherever the name goes, until the app is deployed again.
type pins struct {
	app   placement.App
	trees []placement.Artifact
	notes []string // for the person
}

// pinKey is an image as components name it.
type pinKey struct{ image, credentials string }

// pinOf is what became of one.
type pinOf struct {
	image string
	trees []placement.Artifact // none when it is left to the engines
	note  string
	err   error
}

// pin looks up what the images of an app stand for. With pull those that only a
// registry outside has are brought into the mesh.
func (n *Node) pin(ctx context.Context, app placement.App, pull bool) (pins, error) {
	ctx, cancel := context.WithTimeout(ctx, pinMax)
	defer cancel()
	found := map[pinKey]*pinOf{}
	for _, c := range app.Components {
		if c.Container != nil {
			found[pinKey{c.Container.Image, c.Container.Credentials}] = &pinOf{}
		}
	}
	room := make(chan struct{}, pinsMax)
	var all sync.WaitGroup
	for key, to := range found {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			*to = n.pinImage(ctx, app.Key().Namespace, key, pull)
		})
	}
	all.Wait()
	out := pins{app: app, trees: nil}
	out.app.Components = map[string]placement.Component{}
	var errs []error
	for _, name := range app.ComponentNames() {
		c := app.Components[name]
		if c.Container != nil {
			container, p := *c.Container, found[pinKey{c.Container.Image, c.Container.Credentials}]
			if p.err != nil {
				errs = append(errs, fmt.Errorf("components.%s.container.image %q: %w", name, container.Image, p.err))
			}
			if p.note != "" {
				out.notes = append(out.notes, name+": "+p.note)
			}
			for _, a := range p.trees {
				if !slices.Contains(out.trees, a) {
					out.trees = append(out.trees, a)
				}
			}
			container.Image = p.image
			c.Container = &container
		}
		out.app.Components[name] = c
	}
	return out, errors.Join(errs...)
}

// pinImage looks for an image: in the mesh, and then where its name says.
func (n *Node) pinImage(ctx context.Context, namespace string, key pinKey, pull bool) pinOf {
	ref, err := upstream.Parse(key.image)
	if err != nil {
		return pinOf{err: fmt.Errorf("%w: %w", placement.ErrInvalid, err)}
	}
	own := n.ownRegistry(ref.Host)
	if own { // as it was pushed; it is the mesh's wherever it runs
		key.image = strings.TrimPrefix(key.image, ref.Host+"/")
		ref.Plain = ref.Repository
	}
	digest := ref.Digest
	if digest == "" && ref.Plain != "" {
		view, ok, err := n.imageNamed(ctx, ref.Plain, ref.Tag)
		if err != nil {
			return pinOf{err: err}
		}
		if ok {
			digest = view.Image.Digest
		}
	}
	if digest != "" {
		trees, err := n.treesOf(ctx, digest)
		if err == nil {
			return pinOf{image: pinnedTo(key.image, ref, digest), trees: trees}
		}
		if !errors.Is(err, placement.ErrNotFound) {
			return pinOf{err: err}
		}
	}
	if own {
		return pinOf{err: fmt.Errorf("%w: the mesh has no %s: push it first, or see what there is with hansa images", placement.ErrInvalid, key.image)}
	}
	return n.pinOutside(ctx, namespace, key, ref, pull)
}

// ownRegistry says whether the host of an image's name is this peer's own registry, by
// an address that people push to.
func (n *Node) ownRegistry(host string) bool {
	at, port, err := net.SplitHostPort(n.cfg.API)
	name, asked, err2 := net.SplitHostPort(host)
	if err != nil || err2 != nil || port != asked {
		return false
	}
	local := func(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }
	everywhere := at == "" || net.ParseIP(at).IsUnspecified()
	return name == at || local(name) && (local(at) || everywhere) || slices.Contains(n.cfg.APIHosts, name)
}

// pinnedTo is a name with the digest that it stands for.
func pinnedTo(text string, ref upstream.Ref, digest string) string {
	if ref.Digest != "" {
		return text
	}
	return text + "@" + digest
}

// imageNamed is a name of the mesh's registry.
func (n *Node) imageNamed(ctx context.Context, repository, reference string) (view placement.ImageView, ok bool, err error) {
	err = n.loop.look(ctx, func(core *placement.Peer) { view, ok = core.Image(placement.ImageKey(repository, reference)) })
	return view, ok, err
}

// treesOf are the artifacts that an image in the mesh is: one, or one for each
// architecture that the mesh has of it.
func (n *Node) treesOf(ctx context.Context, digest string) ([]placement.Artifact, error) {
	refs, err := n.referenced(ctx)
	if err != nil {
		return nil, err
	}
	if trees := treesIn(refs, digest); len(trees) > 0 {
		return trees, nil
	}
	if _, err := n.findFile(ctx, digest); err != nil { // a part of an index may be, without a name
		return nil, err
	}
	size, err := n.sizeOf(ctx, digest)
	return []placement.Artifact{{Digest: digest, Size: size, Tree: true}}, err
}

// treesIn are those of an image among what anything in the mesh needs.
func treesIn(refs []placement.Reference, digest string) (trees []placement.Artifact) {
	for _, r := range refs {
		switch {
		case !r.Tree || r.Digest != digest:
		case r.Arch == "":
			return []placement.Artifact{r.Artifact}
		default:
			trees = append(trees, r.Artifact)
		}
	}
	return trees
}

// sizeOf is the bytes of a tree, of which the manifests are brought here.
func (n *Node) sizeOf(ctx context.Context, root string) (int64, error) {
	tree, err := n.manifestsOf(ctx, root, "")
	return tree.Size(), err
}

// manifestsOf is a tree, or what of it runs on an architecture, of which all manifests
// were brought here, so that it is known what it is made of.
func (n *Node) manifestsOf(ctx context.Context, root, arch string) (image.Tree, error) {
	for range image.DepthMax + 2 { // each round reads manifests one level further down
		tree, err := n.images.trees.Tree(root, arch)
		if err != nil {
			return tree, err
		}
		fetched := false
		for _, p := range tree.Missing {
			if !p.Manifest {
				continue
			}
			if err := n.fetchFile(ctx, p.Digest, p.Size, nil); err != nil {
				return tree, err
			}
			fetched = true
		}
		if !fetched {
			return tree, nil
		}
	}
	return image.Tree{}, fmt.Errorf("image %s: %w: its manifests do not stay here", root, placement.ErrUnavailable)
}

// incoming is the files here, and what comes to them from outside.
type incoming struct {
	treeStore
	n *Node
}

func (n *Node) incoming() incoming { return incoming{treeStore{n.store.Blobs()}, n} }

// Create begins a file that came from outside.
func (s incoming) Create(ctx context.Context, digest string, size int64) (upstream.Writer, error) {
	s.n.images.guard.Use(digest) // before it is here, so that nobody finds it unneeded first
	w, err := s.n.store.Blobs().Create(ctx, digest, size)
	if err != nil {
		return nil, err
	}
	return &comingFile{w, func() { s.n.come(digest) }}, nil
}

// comingFile says when it has come.
type comingFile struct {
	upstream.Writer
	come func()
}

// Commit implements upstream.Writer.
func (f *comingFile) Commit() error {
	err := f.Writer.Commit()
	if err == nil {
		f.come()
	}
	return err
}

// moved says which images of an app are others now than they were, by names that
// are the same.
func moved(before, after placement.App) []string {
	var notes []string
	for _, name := range after.ComponentNames() {
		old, had := before.Components[name]
		now := after.Components[name]
		from, to := old.ImageDigest(), now.ImageDigest()
		if !had || from == "" || to == "" || from == to {
			continue
		}
		was, err := upstream.Parse(old.Container.Image)
		is, err2 := upstream.Parse(now.Container.Image)
		if err == nil && err2 == nil && was.Tag != "" && was.Host == is.Host && was.Repository == is.Repository && was.Tag == is.Tag {
			notes = append(notes, fmt.Sprintf("%s: %s:%s has moved: it is %.19s… now, and was %.19s…", name, is.Repository, is.Tag, to, from))
		}
	}
	return notes
}

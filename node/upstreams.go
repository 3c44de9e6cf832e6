package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/upstream"
	"github.com/hansa-mesh/hansa/placement"
)

// pullMax bounds one pull from a registry outside of the mesh.
const pullMax = 30 * time.Minute

// pullsMax bounds those that are under way at once.
const pullsMax = 16

// upstreams are the registries outside of the mesh. What one peer pulled, the mesh
// has: under the registry's name as a repository, so that it is found again when
// the registry is not.
type upstreams struct {
	registries *upstream.Registries // nil when none is asked

	mu    sync.Mutex // guards what follows
	pulls map[string]*pulling
	// unreadable is why the credentials of a namespace can't be read, where they can't.
	unreadable map[string]string
}

// pulling is an image on its way from outside.
type pulling struct {
	done  chan struct{} // closed when it is over
	trees []placement.Artifact
	err   error
}

func (n *Node) openUpstreams() {
	n.upstreams = &upstreams{pulls: map[string]*pulling{}, unreadable: map[string]string{}, registries: n.deps.Upstream}
	if n.cfg.Upstream != upstreamNone && n.upstreams.registries == nil {
		n.upstreams.registries = upstream.New(upstream.Config{})
	}
}

// pinOutside asks the registry that an image's name means. What the mesh has of it
// from before is used when the registry does not answer; without that the name is
// left as it is, for the engines.
func (n *Node) pinOutside(ctx context.Context, namespace string, key pinKey, ref upstream.Ref, pull bool) pinOf {
	have, cached, err := n.imageNamed(ctx, ref.Cached(), ref.Reference())
	if err != nil {
		return pinOf{err: err}
	}
	digest, repo, err := n.askOutside(ctx, namespace, key.credentials, ref)
	denied := errors.Is(err, upstream.ErrNotFound) || errors.Is(err, upstream.ErrDenied) || errors.Is(err, placement.ErrInvalid)
	switch {
	case denied:
		text := "the mesh has no such image, and "
		if cached {
			text = fmt.Sprintf("the mesh has what was pulled at %s (%s), and now ", pulledAt(have), have.Image.Digest)
		}
		if errors.Is(err, upstream.ErrDenied) && key.credentials == "" {
			err = fmt.Errorf("%w (credentials of registries are in the secret %q of namespace %s, if it has one: docs/REGISTRY.md)", err, upstream.DefaultSecret, namespace)
		}
		return pinOf{err: fmt.Errorf("%w: %s%w", placement.ErrInvalid, text, err)}
	case err != nil && !cached:
		return pinOf{image: key.image, note: fmt.Sprintf("%s is not in the mesh, and is left to each host's engine: %v", key.image, err)}
	case err != nil || cached && have.Image.Digest == digest:
		trees, known := n.treesOf(ctx, have.Image.Digest)
		if known == nil {
			p := pinOf{image: pinnedTo(key.image, ref, have.Image.Digest), trees: trees}
			if err != nil {
				p.note = fmt.Sprintf("%s is what was pulled at %s, %s ago: %v", key.image, pulledAt(have), ageOf(have), err)
			}
			return p
		}
		if err != nil {
			return pinOf{err: errors.Join(known, err)}
		}
	}
	if !pull {
		return pinOf{image: pinnedTo(key.image, ref, digest), note: fmt.Sprintf("%s would be pulled from %s", key.image, ref.Host)}
	}
	// Whether it is signed is looked at before the bulk of it is on its way.
	whole := placement.Container{Image: ref.Host + "/" + ref.Repository + "@" + digest, Credentials: key.credentials}
	if err := n.deployable(ctx, namespace, placement.Component{Container: &whole}); err != nil {
		return pinOf{err: err}
	}
	trees, err := n.pullThrough(ctx, repo, ref, digest)
	return pinOf{image: pinnedTo(key.image, ref, digest), trees: trees, err: err}
}

func pulledAt(v placement.ImageView) string {
	return time.UnixMilli(v.Version.Millis).UTC().Format(time.RFC3339)
}

func ageOf(v placement.ImageView) time.Duration {
	return max(0, time.Since(time.UnixMilli(v.Version.Millis))).Round(time.Second)
}

// askOutside is what a name stands for at its registry.
func (n *Node) askOutside(ctx context.Context, namespace, secret string, ref upstream.Ref) (string, *upstream.Repository, error) {
	repo, err := n.openOutside(ctx, namespace, secret, ref)
	if err != nil {
		return "", nil, err
	}
	digest, err := repo.Resolve(ctx)
	return digest, repo, err
}

// openOutside meets the registry of a name.
func (n *Node) openOutside(ctx context.Context, namespace, secret string, ref upstream.Ref) (*upstream.Repository, error) {
	if n.upstreams.registries == nil {
		return nil, errors.New("this peer asks no registry outside of the mesh (--upstream none)")
	}
	credentials, err := n.credentialsOf(ctx, namespace, secret, ref.Host)
	if err != nil {
		return nil, err
	}
	return n.upstreams.registries.Open(ctx, ref, credentials)
}

// credentialsOf are those for a registry: of the secret that the component names, or
// else of the one that the namespace has for all.
func (n *Node) credentialsOf(ctx context.Context, namespace, secret, host string) (upstream.Credentials, error) {
	if secret == "" {
		return n.credentialsOfAll(ctx, namespace, host), nil
	}
	value, err := n.vault.Get(ctx, namespace, secret)
	if err != nil {
		return upstream.Credentials{}, err
	}
	c, ok, err := upstream.ParseCredentials(value, host)
	switch {
	case err != nil:
		return c, fmt.Errorf("%w: secret %s of namespace %s: %w", placement.ErrInvalid, secret, namespace, err)
	case !ok:
		return c, fmt.Errorf("%w: secret %s of namespace %s holds nothing for the registry %s", placement.ErrInvalid, secret, namespace, host)
	}
	return c, nil
}

// credentialsOfAll are those that a namespace has for a registry, if it has any and this
// peer may and can read them. What no component asked for stops none: most images are
// anybody's, and a registry that wants more says so.
func (n *Node) credentialsOfAll(ctx context.Context, namespace, host string) upstream.Credentials {
	value, err := n.vault.Get(ctx, namespace, upstream.DefaultSecret)
	if errors.Is(err, placement.ErrNotFound) || errors.Is(err, placement.ErrConflict) {
		return upstream.Credentials{} // there is none, or it is not for this site
	}
	var c upstream.Credentials
	if err == nil {
		c, _, err = upstream.ParseConfig(value, host)
	}
	if n.upstreams.unread(namespace, err) {
		n.log.Warn("a namespace's credentials for registries can't be read: images are pulled without them",
			"namespace", namespace, "secret", upstream.DefaultSecret, "registry", host, "err", err)
	}
	return c
}

// unread notes whether a namespace's credentials can be read, and says whether that they
// can't is news.
func (u *upstreams) unread(namespace string, err error) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err == nil {
		delete(u.unreadable, namespace)
		return false
	}
	known := u.unreadable[namespace] == err.Error()
	u.unreadable[namespace] = err.Error()
	return !known
}

// engineCredentials are those that the engine of this machine needs to pull an image.
func (n *Node) engineCredentials(ctx context.Context, namespace string, c placement.Container) (user, password string, err error) {
	ref, err := upstream.Parse(c.Image)
	if err != nil {
		return "", "", err
	}
	found, err := n.credentialsOf(ctx, namespace, c.Credentials, ref.Host)
	return found.User, found.Password, err
}

// pullThrough waits for the one pull of an image, which it begins if there is none.
// It goes on when ctx is done.
func (n *Node) pullThrough(ctx context.Context, repo *upstream.Repository, ref upstream.Ref, digest string) ([]placement.Artifact, error) {
	key := ref.String() + " " + digest
	u := n.upstreams
	u.mu.Lock()
	p := u.pulls[key]
	if p == nil && len(u.pulls) >= pullsMax {
		u.mu.Unlock()
		return nil, fmt.Errorf("%w: %d images are being pulled already: deploy again in a moment", api.ErrPulling, pullsMax)
	}
	if p == nil {
		p = &pulling{done: make(chan struct{})}
		u.pulls[key] = p
		n.work.Go(func() {
			ctx, cancel := context.WithTimeout(n.ctx, pullMax)
			defer cancel()
			p.trees, p.err = n.pullNow(ctx, repo, ref, digest)
			u.mu.Lock()
			delete(u.pulls, key)
			u.mu.Unlock()
			close(p.done)
		})
	}
	u.mu.Unlock()
	select {
	case <-p.done:
		return p.trees, p.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %s is still being pulled from %s, and that goes on: deploy again in a moment", api.ErrPulling, ref.Repository, ref.Host)
	}
}

// pullNow brings an image here and gives it a name, so that the mesh keeps it.
func (n *Node) pullNow(ctx context.Context, repo *upstream.Repository, ref upstream.Ref, digest string) ([]placement.Artifact, error) {
	archs, err := n.architectures(ctx)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	files := n.incoming()
	if err := repo.Pull(ctx, files, digest, archs); err != nil {
		n.log.Warn("an image was not pulled", "image", ref.String(), "digest", digest, "err", err)
		return nil, err
	}
	on, err := upstream.Architectures(files, digest, archs)
	if err != nil {
		return nil, err
	}
	var trees []placement.Artifact
	size := int64(0)
	for _, arch := range on {
		tree, err := n.images.trees.Tree(digest, arch)
		if err != nil {
			return nil, err
		}
		trees = append(trees, placement.Artifact{Digest: digest, Size: tree.Size(), Tree: true, Arch: arch})
		size += tree.Size()
	}
	named, err := n.outsideImage(ref, digest)
	if err != nil {
		return nil, err
	}
	result, err := n.submit(ctx, func(ticket uint64) placement.Event {
		return placement.Submit{Ticket: ticket, App: named.App(), Artifacts: trees, Copies: copiesDefault}
	})
	if err != nil {
		return nil, fmt.Errorf("%s was pulled, and the mesh did not take its name: %w", ref, err)
	}
	n.shown(ctx, shownQuery{Key: named.Key(), Version: result.Version, Digest: digest})
	n.log.Info("an image was pulled into the mesh", "image", ref.String(), "digest", digest, "bytes", size, "took", time.Since(begin))
	n.happened("image-pulled", fmt.Sprintf("%s was pulled into the mesh, %d bytes: it is %s", ref, size, digest))
	return trees, nil
}

// outsideImage is the name that the mesh keeps an image from outside under.
func (n *Node) outsideImage(ref upstream.Ref, digest string) (placement.Image, error) {
	file, size, err := n.incoming().Open(digest)
	if err != nil {
		return placement.Image{}, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, image.ManifestMax))
	if err != nil {
		return placement.Image{}, err
	}
	m, err := image.Parse("", data)
	if err != nil {
		return placement.Image{}, fmt.Errorf("%s: %w", ref, err)
	}
	return placement.Image{Repository: ref.Cached(), Reference: ref.Reference(), Digest: digest, MediaType: m.MediaType, Size: size}, nil
}

// architectures are those of the mesh's hosts.
func (n *Node) architectures(ctx context.Context) ([]string, error) {
	peers, _, err := backend{n}.peers(ctx)
	if err != nil {
		return nil, err
	}
	all := []string{ownArch}
	for _, p := range peers {
		all = append(all, p.Arch...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

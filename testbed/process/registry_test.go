package process_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/testbed/links"
	"github.com/hansa-mesh/hansa/testbed/netns"
	"github.com/hansa-mesh/hansa/testbed/process"
)

// frontManifest is an app of one container, whose image the mesh has.
const frontManifest = `version: hansa/v1
app: front
components:
  web:
    container: {image: "shop/web:%s"}
    env: {GREETING: "%s"}
    ports: {http: 8080}
    health: {http: {path: /healthz}, interval: 2s}
    update: {min_healthy: 1s}
    %s
    disconnect: {lost_after: 0s, replace: majority, reconcile: keep_replacement}
`

// Images are pushed to the first of these sites; the last runs what it has not.
const origin, second, third = "lubeck", "bergen", "novgorod"

// front is that app at three sites, each with an engine of its own.
type front struct {
	*testing.T
	mesh *process.Mesh
}

// TestRegistryOutlivesPeers: an image is pushed to one peer with a client of others,
// and that peer dies; what uses the image by its name runs elsewhere, with bytes of
// the mesh: no engine has them from anybody else, and no registry outside is in reach.
func TestRegistryOutlivesPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("engines and real daemons take a minute; not with -short")
	}
	hansa := daemon(t)
	if os.Geteuid() != 0 {
		t.Skip("sites with an engine each are only to be had as root")
	}
	for _, program := range []string{"dockerd", "skopeo"} {
		if _, err := exec.LookPath(program); err != nil {
			lacks(t, "pushing images and running them needs %s: %v", program, err)
		}
	}
	m, err := process.Start(t.Context(), process.Config{
		Hansa: hansa, Dir: t.TempDir(), Sites: []string{origin, second, third},
		Net: process.Namespaces(links.Link{Delay: 5 * time.Millisecond}), Engines: true,
	})
	if errors.Is(err, netns.ErrNotAllowed) {
		lacks(t, "no site can have an engine: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &front{T: t, mesh: m}
	t.Cleanup(f.end)
	acquainted(t, m)
	f.originDies()
	f.originDiesAtOnce()
	f.fileRots(third)
}

// originDies: the peer that was pushed to loses its power when the app runs.
func (f *front) originDies() {
	_, digest, layer := f.push("1", 1)
	f.deploy(third, "1", "welcome", "place: {near: {site: "+origin+"}}")
	if at := f.runs("welcome", digest, ""); at != origin {
		f.Errorf("it runs at %s, and is to be near %s", at, origin)
	}
	f.kill(origin)
	f.Logf("without %s it runs at %s", origin, f.runs("welcome", digest, origin))
	f.deploy(third, "1", "moved", "place: {where: site="+third+"}")
	if at := f.runs("moved", digest, origin); at != third {
		f.Errorf("it runs at %s, and only %s may", at, third)
	}
	f.whole(third, layer)
	f.back(origin)
}

// originDiesAtOnce: it loses its power when the push is acknowledged, which only one
// other peer heard. So one copy is left, and another site than that is to run it.
func (f *front) originDiesAtOnce() {
	if err := f.mesh.Cut(f.Context(), third); err != nil {
		f.Fatal(err)
	}
	_, digest, layer := f.push("2", 2)
	f.kill(origin)
	f.whole(second, layer)
	if _, err := os.Stat(f.file(third, layer)); !errors.Is(err, os.ErrNotExist) {
		f.Fatalf("%s is cut off and has the layer: %v", third, err)
	}
	if err := f.mesh.Heal(f.Context()); err != nil {
		f.Fatal(err)
	}
	within(f.T, time.Minute, third+" hears of the name", func() error {
		if images := f.images(third, "2"); len(images) != 1 || images[0].Digest != digest {
			return fmt.Errorf("it knows %+v", images)
		}
		return nil
	})
	f.deploy(third, "2", "next", "place: {where: site="+third+"}")
	f.runs("next", digest, origin)
	f.whole(third, layer)
	f.back(origin)
}

// fileRots: a layer is changed on a peer's disk while its daemon is down. Whoever pulls
// there gets what was pushed, and the peer says what it found and did.
func (f *front) fileRots(at string) {
	dir, _, layer := webImage(f.T, 1)
	path := f.file(at, layer)
	if err := f.mesh.KillDaemon(at); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	text[len(text)/2] ^= 1
	was, err := os.Stat(path)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err == nil {
		err = os.Chtimes(path, was.ModTime(), was.ModTime()) // a disk that rots tells no one
	}
	if err != nil {
		f.Fatal(err)
	}
	if err := f.mesh.Restart(f.Context(), at); err != nil {
		f.Fatal(err)
	}
	f.settled()
	pulled := filepath.Join(f.TempDir(), "pulled")
	f.at(at, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "docker://127.0.0.1:7601/shop/web:1", "oci:"+pulled)
	name := filepath.Join("blobs", "sha256", strings.TrimPrefix(layer, "sha256:"))
	want, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		f.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(pulled, name)); err != nil || !bytes.Equal(got, want) {
		f.Errorf("another layer was pulled than was pushed: %v", err)
	}
	f.whole(at, layer)
	f.told(at, layer)
	within(f.T, time.Minute, "the image is whole there", func() error {
		for _, image := range f.images(at, "1") {
			if slices.ContainsFunc(image.Holders, func(h api.Holder) bool { return h.Site == at }) {
				return nil
			}
		}
		return fmt.Errorf("%s is no holder of it: %+v", at, f.images(at, "1"))
	})
}

// told looks for what a peer says of a file that had rotted.
func (f *front) told(at, layer string) {
	f.Helper()
	out := f.at(at, "", "events")
	for _, want := range []string{"image-quarantined", "image-healed"} {
		if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
			return strings.Contains(line, want) && strings.Contains(line, layer)
		}) {
			f.Errorf("no event %s of %s:\n%s", want, layer, out)
		}
	}
	response, err := f.mesh.HTTP(at).Get("http://127.0.0.1:7601/metrics")
	if err != nil {
		f.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		f.Fatal(err)
	}
	for _, want := range []string{"hansa_files_rotten_total 1", "hansa_files_healed_total 1", `hansa_files{state="quarantined"} 1`} {
		if !strings.Contains(string(text), "\n"+want+"\n") {
			f.Errorf("no metric %s", want)
		}
	}
}

// end shows what there is to see of a failure, and ends the mesh.
func (f *front) end() {
	if f.Failed() {
		for _, s := range f.mesh.Sites() {
			if out, err := f.mesh.Command(context.Background(), s.Name, "explain", "front"); err == nil {
				f.Log(out)
			}
			f.Logf("log of %s:\n%s", s.Name, f.mesh.Log(s.Name))
		}
	}
	if err := f.mesh.Close(); err != nil {
		f.Error(err)
	}
}

// at runs a program at a site, hansa if none is named, and shows what it said.
func (f *front) at(site, program string, args ...string) (out string) {
	f.Helper()
	begin, err := time.Now(), error(nil)
	if program == "" {
		program = "hansa"
		out, err = f.mesh.Command(f.Context(), site, args...)
	} else {
		out, err = f.mesh.Run(f.Context(), site, program, args...)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Logf("$ %s %s   # at %s, %v\n%s", program, strings.Join(args, " "), site, time.Since(begin).Round(time.Millisecond), out)
	return out
}

// push pushes an image of the web to the origin.
func (f *front) push(tag string, seed uint64) (dir, digest, layer string) {
	f.Helper()
	dir, digest, layer = webImage(f.T, seed)
	f.at(origin, "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "oci:"+dir, "docker://127.0.0.1:7601/shop/web:"+tag)
	return dir, digest, layer
}

// images are those that the peer of a site knows by a tag.
func (f *front) images(site, tag string) []api.Image {
	f.Helper()
	c, err := f.mesh.Client(site)
	if err != nil {
		f.Fatal(err)
	}
	list, err := c.Images(f.Context(), api.ImageQuery{Repository: "shop/web", Reference: tag})
	if err != nil {
		f.Fatal(err)
	}
	return list.Items
}

// deploy has the app run with an image of the mesh.
func (f *front) deploy(site, tag, greeting, place string) {
	f.Helper()
	file := filepath.Join(f.TempDir(), "front.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, frontManifest, tag, greeting, place), 0o600); err != nil {
		f.Fatal(err)
	}
	f.at(site, "", "deploy", file, "--timeout", mixedMax.String())
}

// runs waits until the app answers, at a site that is not lost, as the third's peer
// tells, and sees that its engine has the image by its digest alone.
func (f *front) runs(greeting, digest, lost string) (site string) {
	f.Helper()
	within(f.T, mixedMax, "the app answers "+greeting, func() error {
		c, err := f.mesh.Client(third)
		if err != nil {
			return err
		}
		list, err := c.Allocations(f.Context(), api.AllocationQuery{App: "front", States: []string{"running"}})
		if err != nil {
			return err
		}
		for _, x := range list.Items {
			if x.Site == lost {
				continue
			}
			response, err := f.mesh.HTTP(x.Site).Get("http://" + x.Ports["http"] + "/")
			if err != nil {
				return err
			}
			defer response.Body.Close()
			var answer struct{ Site, Greeting string }
			if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
				return err
			}
			if answer.Site == x.Site && answer.Greeting == greeting {
				site = x.Site
				return nil
			}
		}
		return fmt.Errorf("of %d allocations none does", len(list.Items))
	})
	if images := askEngine(f.T, f.mesh, site, http.MethodGet, "/images/json", nil); !bytes.Contains(images, []byte("@"+digest)) {
		f.Errorf("the engine of %s has not pulled %s: %s", site, digest, images)
	}
	return site
}

// file is where the peer of a site keeps a file by digest.
func (f *front) file(site, digest string) string {
	sum := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(f.mesh.Dir(site), "blobs", "sha256", sum[:2], sum)
}

// whole sees that a site has a file, and what it should be.
func (f *front) whole(site, digest string) {
	f.Helper()
	text, err := os.ReadFile(f.file(site, digest))
	if sum := sha256.Sum256(text); err != nil || "sha256:"+hex.EncodeToString(sum[:]) != digest {
		f.Errorf("%s has another file than %s: %v", site, digest, err)
	}
}

func (f *front) kill(site string) {
	f.Helper()
	if err := f.mesh.Kill(f.Context(), site); err != nil {
		f.Fatal(err)
	}
}

// back starts a site that was lost.
func (f *front) back(site string) {
	f.Helper()
	if err := f.mesh.Restart(f.Context(), site); err != nil {
		f.Fatal(err)
	}
	f.settled()
}

func (f *front) settled() {
	f.Helper()
	within(f.T, mixedMax, "the mesh is settled", func() error {
		for _, s := range f.mesh.Sites() {
			c, err := f.mesh.Client(s.Name)
			if err != nil {
				return err
			}
			if mesh, err := c.Mesh(f.Context()); err != nil || !mesh.Settled {
				return fmt.Errorf("%s does not call it settled: %v %w", s.Name, mesh.Open, err)
			}
		}
		return nil
	})
}

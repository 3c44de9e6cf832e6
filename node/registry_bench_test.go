package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/hansa-mesh/hansa/node/driver/fake"
)

// blobBytes is the size of a blob in BenchmarkRegistry.
const blobBytes = 256 << 20

// BenchmarkRegistry pushes blobs to registries and pulls them, over HTTP on loopback,
// in turns: a peer with its admin API, disk and all, and Debian's docker-registry on
// the same disk, where that is installed. What else the machine does slows both, so
// that the ratios (peer to docker-registry) say more than the figures.
func BenchmarkRegistry(b *testing.B) {
	peer := &benched{at: benchPeer(b), name: "peer"}
	all := []*benched{peer}
	other := &benched{name: "docker-registry"}
	if path, err := exec.LookPath("docker-registry"); err != nil {
		b.Logf("NO COMPARISON: Debian's docker-registry is not installed (apt-get install docker-registry): %v", err)
	} else {
		other.at = benchDistribution(b, path)
		all = append(all, other)
	}
	data := make([]byte, blobBytes)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(data) // never fails, by its documentation
	for i := range b.N {
		binary.LittleEndian.PutUint64(data, uint64(i))
		d := digest.FromBytes(data).String()
		for k := range all { // who is first changes
			r := all[(k+i)%len(all)]
			begin := time.Now()
			pushBlob(b, r.at, d, data)
			r.push += time.Since(begin)
			begin = time.Now()
			pullBlob(b, r.at, d)
			r.pull += time.Since(begin)
		}
	}
	mb := float64(b.N) * blobBytes / 1e6
	for _, r := range all {
		b.ReportMetric(mb/r.push.Seconds(), r.name+"-push-MB/s")
		b.ReportMetric(mb/r.pull.Seconds(), r.name+"-pull-MB/s")
	}
	if other.at != "" {
		b.ReportMetric(other.push.Seconds()/peer.push.Seconds(), "push-ratio")
		b.ReportMetric(other.pull.Seconds()/peer.pull.Seconds(), "pull-ratio")
	}
}

// benched is one registry, and how long it took for all blobs.
type benched struct {
	name, at   string
	push, pull time.Duration
}

func request(b *testing.B, method, url string, body io.Reader, want int) *http.Response {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), method, url, body)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	if resp.StatusCode != want {
		said, _ := io.ReadAll(resp.Body)
		b.Fatalf("%s %s: %s %s", method, url, resp.Status, said)
	}
	return resp
}

func pushBlob(b *testing.B, at, d string, data []byte) {
	b.Helper()
	begun := request(b, "POST", at+"/v2/bench/blobs/uploads/", nil, http.StatusAccepted)
	begun.Body.Close()
	where, err := begun.Location()
	if err != nil {
		b.Fatal(err)
	}
	q := where.Query()
	q.Set("digest", d)
	where.RawQuery = q.Encode()
	request(b, "PUT", where.String(), bytes.NewReader(data), http.StatusCreated).Body.Close()
}

func pullBlob(b *testing.B, at, d string) {
	b.Helper()
	resp := request(b, "GET", at+"/v2/bench/blobs/"+d, nil, http.StatusOK)
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != blobBytes {
		b.Fatalf("%d bytes: %v", n, err)
	}
}

// benchPeer is a peer on real sockets.
func benchPeer(b *testing.B) string {
	dir := filepath.Join(b.TempDir(), "peer")
	if _, err := Init(InitConfig{DataDir: dir, Name: "one", Site: "here"}); err != nil {
		b.Fatal(err)
	}
	s := &testSite{world: fake.NewWorld()}
	n, err := New(context.Background(), Config{DataDir: dir, Listen: "127.0.0.1:0", API: "127.0.0.1:0"}, Deps{Drivers: s.drivers()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	<-n.Started()
	b.Cleanup(func() {
		cancel(ErrKilled)
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return "http://" + n.API()
}

// benchDistribution is Debian's docker-registry.
func benchDistribution(b *testing.B, program string) string {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	dir := b.TempDir()
	config := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n",
		filepath.Join(dir, "data"), addr), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "serve", config)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get("http://" + addr + "/v2/"); err == nil {
			resp.Body.Close()
			return "http://" + addr
		} else if time.Now().After(deadline) {
			b.Fatal(err)
		}
	}
}

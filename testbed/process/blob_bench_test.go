package process_test

import (
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/testbed/process"
)

var blobMiB = flag.Int("blob-mib", 256, "size of the blob in BenchmarkBlob, in MiB")

// BenchmarkBlob pushes a large blob to one daemon and pulls it from another, whose
// only holder the first is: over HTTP, QUIC and the disks of both. It says how fast
// that is, and how much memory either took at most.
func BenchmarkBlob(b *testing.B) {
	m, err := process.Start(b.Context(), process.Config{Hansa: daemon(b), Dir: b.TempDir(), Sites: []string{"a", "b"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := m.Close(); err != nil {
			b.Error(err)
		}
	})
	size := int64(*blobMiB) << 20
	var push, pull time.Duration
	for seed := range uint64(b.N) {
		sum := sha256.New()
		if _, err := io.Copy(sum, blob(seed, size)); err != nil {
			b.Fatal(err)
		}
		path := fmt.Sprintf("/v2/bench/blobs/sha256:%x", sum.Sum(nil))
		for _, site := range []string{"a", "b"} { // of now on alone
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", m.Pid(site)), []byte("5"), 0); err != nil {
				b.Logf("the most memory of %s is that since its start: %v", site, err)
			}
		}
		begin := time.Now()
		upload(b, m, strings.TrimPrefix(path, "/v2/bench/blobs/"), blob(seed, size), size)
		push += time.Since(begin)
		begin = time.Now()
		got := ask(b, m, "b", http.MethodGet, path, nil, 0, http.StatusOK)
		check := sha256.New()
		n, err := io.Copy(check, got.Body)
		got.Body.Close()
		if err != nil || n != size || string(check.Sum(nil)) != string(sum.Sum(nil)) {
			b.Fatalf("%d bytes of %d came: %v", n, size, err)
		}
		pull += time.Since(begin)
		for _, site := range []string{"a", "b"} {
			b.ReportMetric(peak(b, m.Pid(site)), site+"-peak-MiB")
		}
		ask(b, m, "a", http.MethodDelete, path, nil, 0, http.StatusAccepted).Body.Close()
	}
	mb := float64(b.N) * float64(size) / 1e6
	b.ReportMetric(mb/push.Seconds(), "push-MB/s")
	b.ReportMetric(mb/pull.Seconds(), "pull-MB/s")
}

// blob is so many bytes that nothing compresses, and that are not in memory.
func blob(seed uint64, size int64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return io.LimitReader(rand.NewChaCha8(key), size)
}

func upload(b *testing.B, m *process.Mesh, digest string, body io.Reader, size int64) {
	b.Helper()
	begun := ask(b, m, "a", http.MethodPost, "/v2/bench/blobs/uploads/", nil, 0, http.StatusAccepted)
	begun.Body.Close()
	at := begun.Header.Get("Location")
	if i := strings.Index(at, "/v2/"); i > 0 {
		at = at[i:]
	}
	join := "?"
	if strings.Contains(at, "?") {
		join = "&"
	}
	ask(b, m, "a", http.MethodPut, at+join+"digest="+digest, body, size, http.StatusCreated).Body.Close()
}

func ask(b *testing.B, m *process.Mesh, site, method, path string, body io.Reader, size int64, want int) *http.Response {
	b.Helper()
	for _, s := range m.Sites() {
		if s.Name != site {
			continue
		}
		r, err := http.NewRequestWithContext(b.Context(), method, "http://"+s.API+path, body)
		if err != nil {
			b.Fatal(err)
		}
		r.ContentLength = size
		answer, err := m.HTTP(site).Do(r)
		if err != nil {
			b.Fatal(err)
		}
		if answer.StatusCode != want {
			said, _ := io.ReadAll(answer.Body)
			b.Fatalf("%s %s at %s: %s %s", method, path, site, answer.Status, said)
		}
		return answer
	}
	b.Fatalf("no site %s", site)
	return nil
}

// peak is the most memory that a process had resident, in MiB.
func peak(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 64)
			if err != nil {
				b.Fatal(err)
			}
			return n / 1024
		}
	}
	b.Fatal("the kernel does not say")
	return 0
}

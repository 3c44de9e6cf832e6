package node

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/hansa-mesh/hansa/transport/memnet"
)

// noting notes when bytes of an answer came.
type noting struct {
	*httptest.ResponseRecorder
	begin time.Time
	first time.Duration // the first of them
}

func (w *noting) Write(p []byte) (int, error) {
	if w.first == 0 {
		w.first = time.Since(w.begin)
	}
	return w.ResponseRecorder.Write(p)
}

// A blob that other peers hold is passed on while it comes over a slow link, and is
// here then, in use; asking for its length brings nothing here.
func TestBlobsArePassedOnWhileTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		data := layer("large", 24<<20) // many times what is on its way before the first chunk is whole
		m.sites[0].pushImage(t, "shop/api:1", string(data))
		d := digest.FromBytes(data).String()
		m.until("the keepers hold it", time.Minute, func() error {
			n := 0
			for _, s := range m.sites {
				n += btoi(s.node.store.Blobs().Has(d))
			}
			if n != 3 {
				return fmt.Errorf("%d do", n)
			}
			return nil
		})
		at := m.sites[slices.IndexFunc(m.sites, func(s *testSite) bool { return !s.node.store.Blobs().Has(d) })]
		m.net.SetCap(at.addr, memnet.Cap{Up: 2 << 20, Down: 2 << 20})
		path := "/v2/shop/api/blobs/" + d
		if w := at.ask(t, "HEAD", path, ""); w.Code != http.StatusOK || w.Header().Get("Content-Length") != fmt.Sprint(len(data)) || at.node.mover.Moved().FetchedBytes > 1<<20 {
			t.Errorf("HEAD: %d %v, %+v", w.Code, w.Header(), at.node.mover.Moved())
		}
		w := &noting{ResponseRecorder: httptest.NewRecorder(), begin: time.Now()}
		at.node.registry.ServeHTTP(w, httptest.NewRequest("GET", path, nil).WithContext(t.Context()))
		all := time.Since(w.begin)
		if w.Code != http.StatusOK || digest.FromBytes(w.Body.Bytes()).String() != d {
			t.Fatalf("%d, %d bytes", w.Code, w.Body.Len())
		}
		if t.Logf("the first bytes came after %v, all after %v", w.first, all); w.first > all/2 {
			t.Error("it was brought here before it was passed on")
		}
		if _, used := at.node.images.guard.Idle(d); !used || !at.node.store.Blobs().Has(d) {
			t.Error("it is not here, or not in use")
		}
	})
}

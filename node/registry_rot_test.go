package node

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// A client that pulls what has rotted here gets it whole, at once and each time, since
// another peer has it.
func TestRottenBlobIsPulledFromAnotherPeer(t *testing.T) {
	m := wallMesh(t, 2)
	s := m.sites[0]
	layer := strings.Repeat("layer", 1000)
	s.pushImage(t, "shop/api:1", layer)
	name := digest.FromString(layer).String()
	for round := range 20 { // errors were once told apart by chance
		if err := os.WriteFile(s.node.store.Blobs().Path(name), []byte("rot"), 0o600); err != nil {
			t.Fatal(err)
		}
		m.until("another peer gives it", time.Minute, func() error {
			w := s.ask(t, "GET", "/v2/shop/api/blobs/"+name, "")
			if w.Code == http.StatusNotFound { // a starved peer answers too late, now and then
				return fmt.Errorf("%d: %.200s", w.Code, w.Body)
			}
			if w.Code != http.StatusOK || w.Body.String() != layer {
				t.Fatalf("%d, %d bytes: %.200s", w.Code, w.Body.Len(), w.Body)
			}
			return nil
		})
		// The answer may be complete before the file has its name again.
		m.until("the file is whole again", time.Minute, func() error {
			if c, n := s.node.images.counts(), int64(round+1); c.Rotten != n || c.Healed != n {
				return fmt.Errorf("%d files were rotten and %d healed, not %d", c.Rotten, c.Healed, n)
			}
			return nil
		})
	}
}

package store

import (
	"os"
	"testing"
	"time"
)

// Reading a file is a use of it; looking whether it has rotted is none, also where the
// file system notes each reading.
func TestCheckIsNoUse(t *testing.T) {
	b := open(t, t.TempDir()).Blobs()
	digest := write(t, b, "hansa", 5)
	long := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	used := func() time.Time {
		t.Helper()
		list, err := b.List()
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0].Used
	}
	if err := os.Chtimes(b.Path(digest), long, long); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(digest); err != nil || !used().Equal(long) {
		t.Errorf("%v; used %v, want %v as before it was checked", err, used(), long)
	}
	file, _, err := b.Open(digest)
	if err != nil {
		t.Fatal(err)
	}
	if file.Close(); time.Since(used()) > time.Hour {
		t.Errorf("it was opened, and used %v", used())
	}
}

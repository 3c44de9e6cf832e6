package node

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/trust"
)

// What a person gets wrong is said, names the flag, and loses nothing.
func TestNewRefuses(t *testing.T) {
	dir := func() string { return filepath.Join(t.TempDir(), "data") }
	founded := func() string {
		d := dir()
		if _, err := Init(InitConfig{DataDir: d, Name: "fra-1", Site: "fra"}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	broken := founded()
	for _, name := range []string{meshFile, meshCopy} {
		if err := os.WriteFile(filepath.Join(broken, identityDir, name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := founded()
	ofAnother, err := store.Open(store.Config{Dir: other, Mesh: "another"})
	if err != nil {
		t.Fatal(err)
	}
	if err := ofAnother.Close(); err != nil {
		t.Fatal(err)
	}
	newer := founded()
	if err := os.WriteFile(filepath.Join(newer, "format.json"), []byte(`{"version":99,"mesh":"x","incarnation":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := trust.NewToken(key, trust.TokenOptions{Mesh: key.Public(), Name: "syd-1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"no folder":          {Config{}, "--data-dir is empty"},
		"in no mesh":         {Config{DataDir: dir()}, "hansa init"},
		"a token alone":      {Config{DataDir: dir(), Token: "hansa-x"}, "--join ADDR"},
		"no token":           {Config{DataDir: dir(), Join: []string{"127.0.0.1:1"}, Token: "nonsense"}, "'hansa invite'"},
		"another name":       {Config{DataDir: founded(), Name: "syd-1"}, "let in as fra-1"},
		"another site":       {Config{DataDir: founded(), Site: "syd"}, "let in at fra"},
		"a token elsewhere":  {Config{DataDir: founded(), Join: []string{"127.0.0.1:1"}, Token: elsewhere}, "lets into mesh " + key.ID()},
		"a wrong label":      {Config{DataDir: founded(), Labels: map[string]string{"a b": "c"}}, "--labels a b=c"},
		"nowhere":            {Config{DataDir: founded(), Lat: 91}, "--position 91,0"},
		"less than nothing":  {Config{DataDir: founded(), Capacity: placement.Resources{CPU: -1}}, "--capacity"},
		"an odd address":     {Config{DataDir: founded(), WorkAddress: "eth0"}, "--work-address"},
		"back next week":     {Config{DataDir: founded(), BackWithin: 200 * time.Hour}, "--back-within"},
		"a broken mesh.json": {Config{DataDir: broken}, meshFile},
		"UDP port in use":    {Config{DataDir: founded(), Listen: udp.LocalAddr().String()}, "choose another port"},
		"TCP port in use":    {Config{DataDir: founded(), API: tcp.Addr().String()}, "--api"},
		"an open API":        {Config{DataDir: founded(), API: "0.0.0.0:0"}, "token"},
		"another mesh":       {Config{DataDir: other}, "another mesh"},
		"a newer format":     {Config{DataDir: newer}, "version 99"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.cfg.Listen == "" {
				c.cfg.Listen = "127.0.0.1:0"
			}
			if c.cfg.API == "" {
				c.cfg.API = apiNone
			}
			n, err := New(t.Context(), c.cfg, Deps{})
			if err == nil {
				t.Fatalf("it was accepted: %v", n)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: does not speak of %q", err, c.want)
			}
		})
	}
}

func TestInitRefuses(t *testing.T) {
	d := filepath.Join(t.TempDir(), "data")
	if _, err := Init(InitConfig{DataDir: d, Name: "Fra 1", Site: "fra"}); err == nil {
		t.Error("a name with a space")
	}
	first, err := Init(InitConfig{DataDir: d, Name: "fra-1", Site: "fra"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(InitConfig{DataDir: d, Name: "fra-2", Site: "fra"}); err == nil || !strings.Contains(err.Error(), "fra-1") {
		t.Errorf("a folder of a mesh: %v", err)
	}
	if _, err := Init(InitConfig{DataDir: filepath.Join(t.TempDir(), "x"), RootDir: first.RootDir, Name: "b", Site: "b"}); err == nil || !strings.Contains(err.Error(), "root key") {
		t.Errorf("over another root key: %v", err)
	}
}

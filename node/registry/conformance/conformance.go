package conformance

import (
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const program = "github.com/opencontainers/distribution-spec/conformance"

var built struct {
	once sync.Once
	dir  string
	err  error
}

// Main runs the tests of a package, and drops the program after them.
func Main(m *testing.M) int {
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// build is where the program is.
func build() (string, error) {
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "oci-conformance-*"); built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", built.dir, program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build %s: %w\n%s", program, err, out)
		}
	})
	return filepath.Join(built.dir, "conformance"), built.err
}

// report is what of the program's JUnit file matters here.
type report struct {
	Tests    int `xml:"tests,attr"`
	Errors   int `xml:"errors,attr"`
	Failures int `xml:"failures,attr"`
	Skipped  int `xml:"skipped,attr"`
	Disabled int `xml:"disabled,attr"`
}

// testsMin is how many tests there are at the least: a report with fewer says
// nothing.
const testsMin = 500

// everything asks for what the program leaves to registries, too.
var everything = []string{
	"OCI_VERSION=1.1", "OCI_TLS=disabled",
	"OCI_API_BLOBS_UPLOAD_CANCEL=true", "OCI_API_MANIFESTS_TAG_PARAM=true",
	"OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true",
}

// Run runs the program against the registry at a plain URL. It fails the test
// unless every test passed: none may fail, be skipped or be disabled.
func Run(t *testing.T, url string) {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(path)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), everything...)
	cmd.Env = append(cmd.Env, "OCI_REGISTRY="+strings.TrimPrefix(url, "http://"), "OCI_RESULTS_DIR="+dir)
	out, runErr := cmd.CombinedOutput()
	r, err := read(filepath.Join(dir, "junit.xml"))
	if err := errors.Join(runErr, err, r.verdict()); err != nil {
		t.Fatalf("conformance: %v\n%s", err, told(out))
	}
	t.Logf("conformance: %d tests passed", r.Tests)
}

func read(path string) (report, error) {
	var r report
	data, err := os.ReadFile(path)
	if err == nil {
		err = xml.Unmarshal(data, &r)
	}
	return r, err
}

func (r report) verdict() error {
	if r.Errors+r.Failures+r.Skipped+r.Disabled > 0 || r.Tests < testsMin {
		return fmt.Errorf("of %d tests (want %d or more) %d had an error, %d failed, %d were skipped, %d were disabled",
			r.Tests, testsMin, r.Errors, r.Failures, r.Skipped, r.Disabled)
	}
	return nil
}

// toldMax bounds what is shown of the program's report.
const toldMax = 20_000

// told is the program's report without what passed.
func told(out []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		if !strings.HasSuffix(line, ": Pass\n") {
			b.WriteString(line)
		}
	}
	return b.String()[max(0, b.Len()-toldMax):]
}

package wasm_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

// readAhead is what the driver reads of a body before it makes an instance.
const readAhead = 64 << 10

const okHead = "Content-Type: text/plain\r\n\r\n"

// Each of these guests ends in an answer with a reason, and the driver serves
// the next call.
func TestHostileGuests(t *testing.T) {
	short := 300 * time.Millisecond
	for _, tc := range []struct {
		name    string
		a       asm
		timeout time.Duration
		status  int
		cause   driver.Cause
		detail  string
	}{
		{"endless loop", asm{code: opForever}, short, 504, driver.CauseTimeout, "timeout of 300ms"},
		{"trap", asm{code: opTrap}, 0, 500, driver.CauseCrash, "unreachable"},
		{"exit code", asm{code: opExit(7)}, 0, 500, driver.CauseCrash, "exited with code 7"},
		{"no answer", asm{}, 0, 502, driver.CauseBad, "without an answer"},
		{"memory", asm{code: cat(opGrow, opTrap)}, 0, 507, driver.CauseMemory, "1 MiB"},
		{"memory, and goes on", asm{text: okHead + "ok", code: cat(opGrow, opPrint)}, 0, 200, "", "ok"},
		{"a table without end", asm{tables: tableOf(1), text: okHead + "ok", code: cat(opGrowTable(1<<21), opPrint)}, 0, 200, "", "ok"},
		{"trap after half an answer", asm{text: okHead + "ok", code: cat(opPrint, opTrap)}, 0, 500, driver.CauseCrash, "unreachable"},
		{"endless headers", asm{text: "X: " + strings.Repeat("y", 1000) + "\n", code: opLoop(opPrint)}, 0, 502, driver.CauseBad, "headers are over"},
		{"endless line", asm{text: strings.Repeat("y", 1000), code: opLoop(opPrint)}, 0, 502, driver.CauseBad, "blank line"},
		{"no header", asm{text: "hello\n\nworld", code: opPrint}, 0, 502, driver.CauseBad, "malformed"},
		{"body only", asm{text: "\n\nworld", code: opPrint}, 0, 502, driver.CauseBad, "no headers"},
		{"neither type nor status", asm{text: "X-A: 1\n\nworld", code: opPrint}, 0, 502, driver.CauseBad, "Content-Type"},
		{"bad status", asm{text: "Status: 99\n\n", code: opPrint}, 0, 502, driver.CauseBad, "status"},
		{"status 101", asm{text: "Status: 101 Switching\n\n", code: opPrint}, 0, 502, driver.CauseBad, "status"},
		{"bad name", asm{text: "Status: 200\nA B: c\n\n", code: opPrint}, 0, 502, driver.CauseBad, "name"},
		{"bad value", asm{text: "Status: 200\nA: \x01\n\n", code: opPrint}, 0, 502, driver.CauseBad, "A"},
		{"bad length", asm{text: "Status: 200\nContent-Length: -1\n\n", code: opPrint}, 0, 502, driver.CauseBad, "Content-Length"},
		{"shorter than it said", asm{text: okHead[:26] + "Content-Length: 9\n\nfour", code: opPrint}, 0, 502, driver.CauseBad, "shorter"},
		{"longer than it said", asm{text: okHead[:26] + "Content-Length: 2\n\nfour", code: opPrint}, 0, 200, "", "fo"},
		{"many fields", asm{text: "Status: 200\n" + manyFields() + "\n", code: opPrint}, 0, 502, driver.CauseBad, "fields"},
		{"redirect", asm{text: "Location: /x\n\n", code: opPrint}, 0, 302, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			job := task(t, "c/0", tc.a.file(t))
			job.Memory = 1 << 20
			if tc.timeout > 0 {
				job.Function.Timeout = tc.timeout
			}
			d := running(t, wasm.Config{}, job)
			for range 2 {
				got := invoke(t, d, "c/0", get("/"))
				if got.status != tc.status || got.cause != tc.cause || got.err != nil || !strings.Contains(got.body, tc.detail) {
					t.Fatalf("got %+v, want %d %q with %q", got, tc.status, tc.cause, tc.detail)
				}
			}
			if s := d.Stats(); s.InFlight != 0 || s.MemoryBytes != 0 || s.Calls != 2 {
				t.Errorf("after the calls: %+v", s)
			}
		})
	}
}

func manyFields() string {
	var b strings.Builder
	for i := range 200 {
		b.WriteString("X-" + strings.Repeat("a", i+1) + ": 1\n")
	}
	return b.String()
}

// An endless body is cut at the limit, and its reader told.
func TestEndlessBody(t *testing.T) {
	job := task(t, "c/0", asm{text: okHead + strings.Repeat("z", 4000), code: opLoop(opPrint)}.file(t))
	d := running(t, wasm.Config{ResponseMax: 1 << 20}, job)
	got := invoke(t, d, "c/0", get("/"))
	if got.status != http.StatusOK || got.err == nil || len(got.body) > 1<<20 {
		t.Errorf("%d, %d bytes, %v", got.status, len(got.body), got.err)
	}
	if s := d.Stats(); s.Limits != 1 {
		t.Errorf("%+v", s)
	}
}

func TestGoGuestFailures(t *testing.T) {
	d := running(t, wasm.Config{}, task(t, "c/0", guest(t)))
	for _, tc := range []struct {
		path   string
		status int
		detail string
	}{
		{"/exit/3", 500, "exited with code 3"},
		{"/late/0", 500, "exited with code 3"},
		{"/short/0", 502, "shorter"},
		{"/hold/100", 507, "64 MiB"},
		{"/status/404", 404, "body"},
		{"/sleep/20", 200, "slept"},
	} {
		if got := invoke(t, d, "c/0", get(tc.path)); got.status != tc.status || !strings.Contains(got.body, tc.detail) {
			t.Errorf("%s: %+v, want %d with %q", tc.path, got, tc.status, tc.detail)
		}
	}
	contains(t, "the log", drivertest.LogText(t, d, "c/0"), "stderr F going down", "hansa F GET /exit/3: the function exited with code 3")
}

func TestEnvironmentIsCGI(t *testing.T) {
	job := task(t, "c/0", guest(t))
	job.Env = map[string]string{"HANSA_SITE": "fra"}
	d := running(t, wasm.Config{}, job)
	r := &driver.Request{
		Method: "GET", ScriptName: "/v1/functions/default/shop/api", Path: "/goods/ü", RawQuery: "a=1&b=%20",
		Host: "shop.example:8443", Scheme: "https", RemoteAddr: "192.0.2.1:5555",
		Header: http.Header{
			"Accept": {"a", "b"}, "X-Request-Id": {"7"}, "Content-Type": {"text/x"},
			"Authorization": {"no1"}, "Cookie": {"no2"}, "Proxy": {"no3"}, "Proxy-Authorization": {"no4"},
			"X_Under": {"no5"}, "Connection": {"X-Hop"}, "X-Hop": {"no6"}, "X-Nul": {"no7\x00"},
		},
	}
	got := invoke(t, d, "c/0", r)
	contains(t, "the environment", got.body,
		"HANSA_SITE=fra\n", "GATEWAY_INTERFACE=CGI/1.1\n", "REQUEST_METHOD=GET\n", "SCRIPT_NAME=/v1/functions/default/shop/api\n",
		"PATH_INFO=/goods/ü\n", "QUERY_STRING=a=1&b=%20\n", "SERVER_NAME=shop.example\n", "SERVER_PORT=8443\n",
		"SERVER_PROTOCOL=HTTP/1.1\n", "REMOTE_ADDR=192.0.2.1\n", "HTTP_ACCEPT=a, b\n", "HTTP_X_REQUEST_ID=7\n",
		"CONTENT_TYPE=text/x\n", "HTTPS=on\n", "HTTP_HOST=shop.example:8443\n")
	for _, secret := range []string{"no1", "no2", "no3", "no4", "no5", "no6", "no7", "HTTP_PROXY", "CONTENT_LENGTH"} {
		if strings.Contains(got.body, secret) {
			t.Errorf("the guest sees %s", secret)
		}
	}
	for host, want := range map[string]string{"": "localhost", "[::1]:80": "[::1]", "[::1]": "[::1]", "a": "a"} {
		r := get("/a b?c")
		r.Host = host
		contains(t, "the environment", invoke(t, d, "c/0", r).body, "SERVER_NAME="+want+"\n", "SERVER_PORT=80\n", "REQUEST_URI=/a%20b%3Fc\n")
	}
	large := get("/")
	large.Header = http.Header{"X-Large": {strings.Repeat("x", 70_000)}}
	if got := invoke(t, d, "c/0", large); got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("too large headers: %d", got.status)
	}
}

func TestBodies(t *testing.T) {
	d := running(t, wasm.Config{RequestMax: 8 << 20}, task(t, "c/0", guest(t)))
	for _, tc := range []struct {
		name         string
		size, length int64
		status       int
		want         string
	}{
		{"small", 10, 10, 200, "10 <nil> 10"},
		{"small, length not known", 10, -1, 200, "10 <nil> 10"},
		{"large", 4 << 20, 4 << 20, 200, "4194304 <nil> 4194304"},
		{"large, length not known", 4 << 20, -1, 200, "4194304 <nil> "},
		{"at the limit", 8 << 20, 8 << 20, 200, "8388608 <nil> 8388608"},
		{"over the limit", 9 << 20, 9 << 20, 413, "over the limit"},
	} {
		r := post("/count/0", io.LimitReader(neverEnding('x'), tc.size), tc.length)
		if got := invoke(t, d, "c/0", r); got.status != tc.status || !strings.Contains(got.body, tc.want) {
			t.Errorf("%s: %+v, want %d %q", tc.name, got, tc.status, tc.want)
		}
	}
	// A length that was not known, and then is over the limit: the guest
	// never answers in full.
	if got := invoke(t, d, "c/0", post("/count/0", neverEnding('x'), -1)); got.status != 413 {
		t.Errorf("endless: %+v", got)
	}
	// A client that breaks off in the part that is read ahead.
	if _, err := d.Invoke(t.Context(), "c/0", post("/", strings.NewReader("half"), 10)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that breaks off: %v", err)
	}
	if got := invoke(t, d, "c/0", get("/big/3000")); got.err != nil || len(got.body) != 3000<<10 {
		t.Errorf("a large answer: %d bytes, %v", len(got.body), got.err)
	}
	head := get("/big/3")
	head.Method = "HEAD"
	if got := invoke(t, d, "c/0", head); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: %+v", got)
	}
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

// Both directions stream at one time: the answer to the first part is here
// before the second part is sent.
func TestStreaming(t *testing.T) {
	d := running(t, wasm.Config{}, task(t, "c/0", guest(t)))
	pr, pw := io.Pipe()
	defer pw.Close()
	go pw.Write(bytes.Repeat([]byte("x"), readAhead+10)) // what is read ahead, and 10 more
	resp, err := d.Invoke(t.Context(), "c/0", post("/stream/0", pr, -1))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	buf := make([]byte, 1024)
	for !strings.Contains(got.String(), "got 10\n") {
		n, err := resp.Body.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
		got.Write(buf[:n])
	}
	if _, err := pw.Write([]byte("more!")); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(got.String(), "got 5\n") {
		n, err := resp.Body.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
		got.Write(buf[:n])
	}
	resp.Body.Close() // the caller has enough: the guest goes
	if s := d.Stats(); s.InFlight != 0 || s.MemoryBytes != 0 {
		t.Errorf("after Close: %+v", s)
	}
}

// Through a real server and client, as the daemon serves functions.
func TestOverHTTP(t *testing.T) {
	d := running(t, wasm.Config{}, task(t, "c/0", guest(t)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := d.Invoke(r.Context(), "c/0", driver.RequestFromHTTP(r, "/f"))
		if err != nil {
			t.Errorf("Invoke: %v", err)
			return
		}
		resp.WriteHTTP(w)
	}))
	defer server.Close()
	for _, tc := range []struct {
		path, body string
		status     int
		length     int64
		want       string
	}{
		{"/f/status/418", "", 418, 4, "body"},
		{"/f/", strings.Repeat("x", 300_000), 200, -1, strings.Repeat("x", 300_000)},
		{"/f/exit/1", "", 500, 0, "exited with code 1"},
		{"/f/count/0", "12345", 200, 9, "5 <nil> 5"},
	} {
		resp, err := http.Post(server.URL+tc.path, "text/plain", strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tc.status || !strings.Contains(string(b), tc.want) {
			t.Errorf("%s: %d, %d bytes, %v, want %d %.50q", tc.path, resp.StatusCode, len(b), err, tc.status, tc.want)
		}
		if tc.length >= 0 && int(resp.ContentLength) != len(b) {
			t.Errorf("%s: length %d of %d bytes", tc.path, resp.ContentLength, len(b))
		}
	}
	// The rest of an answer that breaks off never looks like the whole.
	resp, err := http.Get(server.URL + "/f/late-after/200")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("an answer that broke off came as %q, with no error", b)
	}
}

// Calls that can't have memory wait; when the queue is full they are refused,
// with a hint when to come back.
func TestConcurrencyFollowsMemory(t *testing.T) {
	job := task(t, "c/0", guest(t))
	job.Memory = 64 << 20
	d := running(t, wasm.Config{QueueMax: 1, QueueWait: 20 * time.Second}, job)
	pr, pw := io.Pipe()
	go pw.Write(make([]byte, readAhead))
	holder, err := d.Invoke(t.Context(), "c/0", post("/hold/30", pr, -1)) // of 64: the next one learns that it needs as much
	if err != nil {
		t.Fatal(err)
	}
	pw.Close()
	if b, err := io.ReadAll(holder.Body); err != nil || string(b) != "holding\n" {
		t.Fatalf("%q %v", b, err)
	}
	holder.Body.Close()

	hold := func() (*driver.Response, *io.PipeWriter) {
		pr, pw := io.Pipe()
		go pw.Write(make([]byte, readAhead))
		resp, err := d.Invoke(t.Context(), "c/0", post("/hold/30", pr, -1))
		if err != nil {
			t.Fatal(err)
		}
		return resp, pw
	}
	first, end := hold()
	waiting := make(chan answer)
	go func() { waiting <- invoke(t, d, "c/0", get("/status/200")) }()
	drivertest.Eventually(t, "a call to wait", func() bool { return d.Stats().Queued == 1 })
	if got := invoke(t, d, "c/0", get("/")); got.status != 503 || got.cause != driver.CauseBusy || got.header.Get("Retry-After") == "" {
		t.Errorf("past the queue: %+v", got)
	}
	end.Close()
	first.Body.Close()
	if got := <-waiting; got.status != 200 {
		t.Errorf("the one that waited: %+v", got)
	}
	if s := d.Stats(); s.Busy != 1 {
		t.Errorf("%+v", s)
	}
}

// A stop lets calls finish within its grace, then kills them.
func TestStopWithCalls(t *testing.T) {
	for _, tc := range []struct {
		path   string
		grace  time.Duration
		status int
	}{{"/sleep/300", 20 * time.Second, 200}, {"/sleep/60000", 50 * time.Millisecond, 503}} {
		d := running(t, wasm.Config{}, task(t, "c/0", guest(t)))
		got := make(chan answer)
		go func() { got <- invoke(t, d, "c/0", get(tc.path)) }()
		drivertest.Eventually(t, "the call to begin", func() bool { return d.Stats().InFlight == 1 })
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := d.Stop(t.Context(), "c/0", tc.grace); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if a := <-got; a.status != tc.status {
			t.Errorf("%s: %+v, want %d", tc.path, a, tc.status)
		}
	}
}

// A client that does not send its body holds up neither a stop nor, longer
// than a call may take, a place.
func TestSlowClient(t *testing.T) {
	slow := func(d *wasm.Driver) (<-chan answer, *io.PipeWriter) {
		pr, pw := io.Pipe()
		t.Cleanup(func() { pw.Close() })
		got := make(chan answer, 1)
		go func() { got <- invoke(t, d, "c/0", post("/", pr, 10)) }()
		if _, err := pw.Write([]byte("x")); err != nil { // it is being read
			t.Fatal(err)
		}
		return got, pw
	}
	d := running(t, wasm.Config{}, task(t, "c/0", guest(t)))
	got, _ := slow(d)
	if err := d.Stop(t.Context(), "c/0", -1); err != nil {
		t.Fatal(err)
	}
	if a := <-got; a.status != http.StatusServiceUnavailable {
		t.Errorf("stopped: %+v", a)
	}
	job := task(t, "c/0", guest(t))
	job.Function.Timeout = 50 * time.Millisecond
	got, _ = slow(running(t, wasm.Config{}, job))
	if a := <-got; a.status != http.StatusRequestTimeout {
		t.Errorf("slow: %+v", a)
	}
}

// What a function makes of a body that it got a part of before its time was
// up is no answer.
func TestTimeoutInTheBody(t *testing.T) {
	job := task(t, "c/0", guest(t))
	job.Function.Timeout = 200 * time.Millisecond
	d := running(t, wasm.Config{}, job)
	pr, pw := io.Pipe()
	defer pw.Close()
	go pw.Write(make([]byte, readAhead+10))
	if got := invoke(t, d, "c/0", post("/count/0", pr, 10*readAhead)); got.status != http.StatusGatewayTimeout {
		t.Errorf("%+v", got)
	}
}

// Each call has an instance of its own: nothing is left of the one before.
func TestFreshInstances(t *testing.T) {
	d := running(t, wasm.Config{}, task(t, "c/0", guest(t)))
	for range 3 {
		if got := invoke(t, d, "c/0", get("/calls/0")); got.body != "1 calls, a file: false" {
			t.Errorf("%+v", got)
		}
	}
}

// A path can't write lines of its own into the log.
func TestPathInTheLog(t *testing.T) {
	d := running(t, wasm.Config{}, task(t, "c/0", asm{code: opTrap}.file(t)))
	invoke(t, d, "c/0", get("/a\n2026-01-02T15:04:05Z stdout F forged\x1b[2J"+strings.Repeat("x", 20_000)))
	text := drivertest.LogText(t, d, "c/0")
	if n := strings.Count(text, "\n"); n != 1 || len(text) > 4000 || strings.Contains(text, "\x1b") {
		t.Errorf("%d lines, %d bytes: %.300q", n, len(text), text)
	}
}

func TestCheckModule(t *testing.T) {
	good := asm{text: okHead, code: opPrint}.bytes()
	if err := wasm.CheckModule(bytes.NewReader(good), ""); err != nil {
		t.Errorf("a good module: %v", err)
	}
	f, err := os.Open(guest(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := wasm.CheckModule(f, ""); err != nil {
		t.Errorf("a Go module: %v", err)
	}
	for _, tc := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "not a WebAssembly module"},
		{"an ELF file", []byte("\x7fELF and more"), "not a WebAssembly module"},
		{"half a header", good[:6], "truncated"},
		{"component", []byte("\x00asm\x0d\x00\x01\x00more"), "component (WASI preview 2 or later), which is not supported; build a WASI preview 1 command"},
		{"another version", []byte("\x00asm\x02\x00\x00\x00"), "version 2"},
		{"no _start", asm{start: "handle"}.bytes(), "no function _start"},
		{"unknown import", asm{imports: [][2]string{{"env", "launch"}}}.bytes(), `"env"."launch"`},
		{"a huge table", asm{tables: tableOf(1 << 21)}.bytes(), "begin with over"},
		{"many tables", asm{tables: section(4, vec(slices.Repeat([][]byte{{0x70, 0, 1}}, 17)...))}.bytes(), "17 tables"},
		{"two sections of tables", asm{tables: cat(tableOf(1), tableOf(1))}.bytes(), "two sections"},
		{"many globals", asm{tables: section(6, make([]byte, 1<<20))}.bytes(), "section 6"},
		{"many elements", asm{tables: section(9, make([]byte, 3<<20))}.bytes(), "section 9"},
		{"unknown wasi", asm{imports: [][2]string{{"wasi_snapshot_preview1", "sock_open"}}}.bytes(), `"sock_open"`},
	} {
		err := wasm.CheckModule(bytes.NewReader(tc.b), "")
		if !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	// Cut anywhere it is truncated, or lacks what must be in it; only after
	// the exports and after the code it looks whole.
	whole := 0
	for n := range good {
		if wasm.CheckModule(bytes.NewReader(good[:n]), "") == nil {
			whole++
		}
	}
	if whole != 2 {
		t.Errorf("%d of %d cuts pass, want 2", whole, len(good))
	}
}

func TestStartRefuses(t *testing.T) {
	d := open(t, wasm.Config{})
	for _, tc := range []struct {
		name string
		path string
		want string
	}{
		{"too little memory", asm{memMin: 100}.file(t), "1024 KiB were granted"},
		{"_start that takes a number", asm{takes: 2, code: opPrint}.file(t), "_start"},
		{"an import of another type", asm{imports: [][2]string{{"wasi_snapshot_preview1", "fd_close"}}, code: opPrint}.file(t), "fd_close"},
		{"code that does not validate", asm{code: []byte{0x6a}}.file(t), "compile"},
		{"component", write(t, "\x00asm\x0d\x00\x01\x00"), "component"},
	} {
		job := task(t, "c/0", tc.path)
		job.Memory = 1 << 20
		if _, err := d.Start(t.Context(), job); !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func write(t *testing.T, s string) string {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// One digest is compiled once, whatever asks for it at one time.
func TestCompiledOnceForAll(t *testing.T) {
	d := open(t, wasm.Config{})
	path := guest(t)
	var wg sync.WaitGroup
	for _, id := range []string{"c/0", "c/1", "c/2", "c/3"} {
		wg.Go(func() {
			if _, err := d.Start(t.Context(), task(t, id, path)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range []string{"c/3", "c/0", "c/1"} {
		if err := d.Stop(t.Context(), id, -1); err != nil {
			t.Error(err)
		}
	}
	if got := invoke(t, d, "c/2", get("/status/201")); got.status != 201 {
		t.Errorf("the code went away with its other users: %+v", got)
	}
}

func FuzzCheckModule(f *testing.F) {
	f.Add(asm{text: okHead, code: opPrint}.bytes())
	f.Add(asm{imports: [][2]string{{"env", "f"}}}.bytes())
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"))
	f.Add(asm{start: "handle", code: opPrint}.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, handler := range []string{"", "handle"} {
			if err := wasm.CheckModule(bytes.NewReader(b), handler); err != nil && !errors.Is(err, driver.ErrInvalid) {
				t.Errorf("an error of another kind: %v", err)
			}
		}
	})
}

package drivertest

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
)

// warmTests are for functions that stay in memory between requests.
var warmTests = []test{
	{"WarmAnswersLikeAnyFunction", func(t *testing.T, m Machine) {
		d := start(t, m)
		task := m.Warm(t, "c/0")
		task.Env = map[string]string{"HANSA_SITE": "fra"}
		d.mustStart(task)
		for _, body := range []string{"", "hello", strings.Repeat("0123456789", 20000), "again"} {
			status, got, err := call(t, d, "c/0", post(body))
			if err != nil || status != http.StatusOK || !strings.Contains(got, body) {
				t.Errorf("a body of %d bytes: %d, %d bytes back, %v", len(body), status, len(got), err)
			}
		}
		header := http.Header{"Authorization": {"bearer-word"}, "Cookie": {"cookie-word"}, "X-Mine": {"mine-word"}}
		_, got, err := call(t, d, "c/0", get(header))
		if err != nil || !strings.Contains(got, "fra") || !strings.Contains(got, "mine-word") {
			t.Errorf("the function does not see its surroundings: %q %v", got, err)
		}
		if strings.Contains(got, "bearer-word") || strings.Contains(got, "cookie-word") {
			t.Errorf("the function sees credentials: %q", got)
		}
		if _, got, err = call(t, d, "c/0", get(http.Header{})); err != nil || strings.Contains(got, "mine-word") {
			t.Errorf("a request has the header of the one before: %q, %v", got, err)
		}
	}},
	{"WarmConcurrently", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.mustStart(m.Warm(t, "c/0"))
		var wg sync.WaitGroup
		for i := range 16 {
			word := strings.Repeat(string(rune('a'+i)), 1000)
			wg.Go(func() {
				status, got, err := call(t, d, "c/0", post(word))
				if err != nil || (status != http.StatusOK && status != http.StatusServiceUnavailable) {
					t.Errorf("%d %q %v", status, got, err)
				}
				if status == http.StatusOK && got != word {
					t.Errorf("the answer to %.3s… is %.3s…", word, got)
				}
			})
		}
		wg.Wait()
	}},
	{"WarmStopsAndStartsAgain", func(t *testing.T, m Machine) {
		d := start(t, m)
		for range 2 {
			d.mustStart(m.Warm(t, "c/0"))
			if status, _, err := call(t, d, "c/0", post("x")); err != nil || status != http.StatusOK {
				t.Errorf("answered %d, %v", status, err)
			}
			d.mustStop("c/0", 0)
			if _, _, err := call(t, d, "c/0", post("x")); !errors.Is(err, driver.ErrUnknownTask) {
				t.Errorf("a function that was stopped: %v, want ErrUnknownTask", err)
			}
		}
	}},
	{"WarmWithoutItsHandler", func(t *testing.T, m Machine) {
		d := start(t, m)
		task := m.Warm(t, "c/0")
		task.Function.Handler = "no_such_function"
		if _, err := d.Start(t.Context(), task); !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), "no_such_function") {
			t.Errorf("a handler that the module lacks: %v, want ErrInvalid that names it", err)
		}
	}},
}

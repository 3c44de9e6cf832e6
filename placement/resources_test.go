package placement

import (
	"encoding/json"
	"math"
	"testing"
)

// Quantities are read as Kubernetes writes them. What an int64 can't hold is
// still too much (or below 0) when it is validated, and never 0; what would
// keep a parser busy for minutes is refused unread.
func TestQuantities(t *testing.T) {
	const none = math.MinInt64 + 1
	for text, want := range map[string]struct{ milli, bytes int64 }{
		`"250m"`:                               {250, 1},
		`2`:                                    {2000, 2},
		`0.5`:                                  {500, 1},
		`".5"`:                                 {500, 1},
		`"128Mi"`:                              {128 * 1000 << 20, 128 << 20},
		`"2G"`:                                 {2e12, 2e9},
		`"1e3"`:                                {1e6, 1000},
		`"-1"`:                                 {-1000, -1},
		`1e30`:                                 {math.MaxInt64, math.MaxInt64},
		`"-1e30"`:                              {math.MinInt64, math.MinInt64},
		`"999999999999999999999"`:              {math.MaxInt64, math.MaxInt64},
		`"9223372036854775807Ei"`:              {math.MaxInt64, math.MaxInt64},
		`"1e999"`:                              {none, none},
		`"1e-99999999"`:                        {none, none},
		`"1e2147483647"`:                       {none, none},
		`"128MB"`:                              {none, none},
		`"lots"`:                               {none, none},
		`""`:                                   {none, none},
		`true`:                                 {none, none},
		`"1000000000000000000000000000000000"`: {none, none},
	} {
		var c CPU
		if err := json.Unmarshal([]byte(text), &c); (err != nil) != (want.milli == none) || err == nil && int64(c) != want.milli {
			t.Errorf("CPU %s: %d, %v; want %d", text, int64(c), err, want.milli)
		}
		var b Bytes
		if err := json.Unmarshal([]byte(text), &b); (err != nil) != (want.bytes == none) || err == nil && int64(b) != want.bytes {
			t.Errorf("bytes %s: %d, %v; want %d", text, int64(b), err, want.bytes)
		}
	}
}

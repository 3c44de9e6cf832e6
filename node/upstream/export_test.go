package upstream

import "net/http"

// Guarded sends a request through the guard of a registry that is on this
// machine, or elsewhere.
func Guarded(loopback bool, url string) error {
	q, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := guard{http.DefaultTransport, loopback}.RoundTrip(q)
	if err == nil {
		answer.Body.Close()
	}
	return err
}

package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// requestHeader carries the id of a request, both ways.
const requestHeader = "Hansa-Request-Id"

// stallMax is how long a client may stay silent in the midst of a body, or let
// one write of a stream wait.
const stallMax = 30 * time.Second

// requestInfo travels in the context of a request.
type requestInfo struct {
	id     string
	answer *recorder
}

type requestInfoKey struct{}

func infoOf(ctx context.Context) requestInfo {
	info, _ := ctx.Value(requestInfoKey{}).(requestInfo)
	return info
}

// unbounded lets an answer take as long as it does; each write then has a
// deadline of its own.
func unbounded(ctx context.Context) {
	if rec := infoOf(ctx).answer; rec != nil {
		rec.unbounded = true
		_ = rec.control.SetWriteDeadline(time.Time{}) // not every writer has deadlines
	}
}

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	refused  *prometheus.CounterVec
	panics   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hansa_http_requests_total", Help: "Requests to the admin API, by route, method and status.",
		}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hansa_http_request_seconds", Help: "Time to the end of the answer, by route; streams are not counted.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10},
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hansa_http_requests_in_flight", Help: "Requests to the admin API that are being answered.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hansa_http_refused_total", Help: "Requests that the guard refused, by reason.",
		}, []string{"reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hansa_http_panics_total", Help: "Requests that ended in a contained panic.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.inFlight, m.refused, m.panics} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	control   *http.ResponseController
	status    int
	bytes     int64
	unbounded bool
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (n int, err error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.timed(func() { n, err = w.ResponseWriter.Write(p) })
	w.bytes += int64(n)
	return n, err
}

// FlushError is what http.ResponseController.Flush calls.
func (w *recorder) FlushError() (err error) {
	w.timed(func() { err = w.control.Flush() })
	return err
}

// timed gives one write of a stream its deadline. It is lifted after, since
// HTTP/2 resets a stream whose deadline passes, be it idle or not.
func (w *recorder) timed(write func()) {
	if !w.unbounded {
		write()
		return
	}
	_ = w.control.SetWriteDeadline(time.Now().Add(stallMax))
	write()
	_ = w.control.SetWriteDeadline(time.Time{})
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// steadyBody gives each read of a body its own deadline. It stays set until the
// end of the body, since net/http reads what the handler left before it
// answers, and is lifted there: a deadline that passes while the handler works
// would end the request.
type steadyBody struct {
	io.ReadCloser
	control *http.ResponseController
}

// newSteadyBody bounds the wait for the first byte as well, which a handler may
// never ask for.
func newSteadyBody(body io.ReadCloser, control *http.ResponseController) steadyBody {
	_ = control.SetReadDeadline(time.Now().Add(stallMax)) // not every reader has deadlines
	return steadyBody{body, control}
}

func (b steadyBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(stallMax))
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// ServeHTTP guards, answers, counts and logs one request, and contains its
// panic.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rec := &recorder{ResponseWriter: w, control: http.NewResponseController(w)}
	info := requestInfo{id: requestID(r), answer: rec}
	r = r.WithContext(context.WithValue(r.Context(), requestInfoKey{}, info))
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = newSteadyBody(r.Body, rec.control)
	}
	h := rec.Header()
	h.Set(requestHeader, info.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	count := s.inFlight.Add(1)
	s.metrics.inFlight.Set(float64(count))
	defer func() {
		p := recover()
		s.metrics.inFlight.Set(float64(s.inFlight.Add(-1)))
		if p != nil && p != http.ErrAbortHandler {
			s.metrics.panics.Inc()
			s.log.Error("a request panicked", "request", info.id, "method", r.Method, "path", r.URL.Path,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if rec.status == 0 {
				WriteProblem(rec, r, &Problem{Kind: KindInternal, Detail: "the request failed in an unexpected way: the log of the peer says more"})
				p = nil
			} else {
				p = http.ErrAbortHandler // the client must see that the answer is cut
			}
		}
		s.observe(r, rec, start)
		if p != nil {
			panic(p)
		}
	}()
	err := s.guard.check(r)
	if err == nil && count > s.cfg.RequestsMax && r.URL.Path != "/healthz" {
		h.Set("Retry-After", "1")
		err = &Problem{Kind: KindLimit, Detail: fmt.Sprintf("this peer answers %d requests already: try again in a second", s.cfg.RequestsMax)}
	}
	if err != nil {
		s.metrics.refused.WithLabelValues(string(NewProblem(err).Kind)).Inc()
		if NewProblem(err).Kind == KindToken {
			h.Set("WWW-Authenticate", challenge(r))
		}
		s.writeRefusal(rec, r, err)
		return
	}
	s.mux.ServeHTTP(rec, r)
}

// observe counts and logs an answered request. Neither the query nor any
// header is logged: they may hold secrets.
func (s *Server) observe(r *http.Request, rec *recorder, start time.Time) {
	status := rec.status
	if status == 0 {
		status = http.StatusOK
	}
	route := r.Pattern
	if route == "" || route == "/" {
		route = "other"
	}
	took := time.Since(start)
	s.metrics.requests.WithLabelValues(route, methodLabel(r.Method), strconv.Itoa(status)).Inc()
	if !s.streams[route] {
		s.metrics.seconds.WithLabelValues(route).Observe(took.Seconds())
	}
	s.log.LogAttrs(r.Context(), slog.LevelDebug, "request", slog.String("request", infoOf(r.Context()).id),
		slog.String("method", r.Method), slog.String("path", short(r.URL.Path)), slog.Int("status", status),
		slog.Int64("bytes", rec.bytes), slog.Duration("took", took), slog.String("from", r.RemoteAddr))
}

// methodLabel keeps made-up methods out of the metrics.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

const requestIDMax = 64

// requestID is the client's own id when it is harmless, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestHeader)
	if id == "" || len(id) > requestIDMax {
		return newRequestID()
	}
	for _, c := range []byte(id) {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
		if !ok {
			return newRequestID()
		}
	}
	return id
}

func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return hex.EncodeToString(b[:])
}

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// eventBeat is how often a quiet stream of events shows that it lives.
const eventBeat = 15 * time.Second

type eventsInput struct {
	PageParams
	Namespace   string `query:"namespace" maxLength:"63"`
	App         string `query:"app" maxLength:"63"`
	Component   string `query:"component" maxLength:"63"`
	Type        string `query:"type" maxLength:"63"`
	Since       string `query:"since" maxLength:"64" doc:"A time (RFC 3339) or a duration (10m)"`
	Newest      bool   `query:"newest" doc:"The last page instead of the first"`
	Accept      string `header:"Accept" hidden:"true"`
	LastEventID string `header:"Last-Event-ID" maxLength:"512" doc:"For a stream: go on after this one"`
}

func (in *eventsInput) query(now time.Time) (EventQuery, error) {
	page, err := in.page()
	if err != nil {
		return EventQuery{}, err
	}
	since, err := parseSince(in.Since, now)
	if err != nil {
		return EventQuery{}, err
	}
	return EventQuery{Namespace: in.Namespace, App: in.App, Component: in.Component, Type: in.Type,
		Since: since, Newest: in.Newest, Page: page}, nil
}

func (s *Server) eventRoutes() {
	op := operation(http.MethodGet, "/v1/events", "list-events", "What happened; a stream when text/event-stream is asked for")
	schema := s.listSchema()
	op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
		"application/json": {Schema: schema}, "text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}}
	s.streams["GET "+op.Path] = true
	register(s, op, func(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
		q, err := in.query(time.Now())
		if err != nil {
			return nil, err
		}
		if wantsStream(in.Accept) {
			q.After = in.LastEventID
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				r, w := humago.Unwrap(hc)
				s.streamEvents(w, r, q)
			}}, nil
		}
		l, err := s.backend.Events(ctx, q)
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := humago.Unwrap(hc)
			writeJSON(w, http.StatusOK, l.list())
		}}, nil
	})
}

func (s *Server) listSchema() *huma.Schema {
	return s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[List[Event]](), true, "")
}

func wantsStream(accept string) bool {
	for _, part := range strings.Split(accept, ",") {
		media, _, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(media), "text/event-stream") {
			return true
		}
	}
	return false
}

// eventStream writes events and beats to one client; both come from goroutines
// of their own.
type eventStream struct {
	mu      sync.Mutex // guards w and failed
	w       http.ResponseWriter
	control *http.ResponseController
	failed  error
}

func (e *eventStream) write(text string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil {
		return e.failed
	}
	if _, err := e.w.Write([]byte(text)); err != nil {
		e.failed = err
	} else if err := e.control.Flush(); err != nil {
		e.failed = err
	}
	return e.failed
}

func (s *Server) streamEvents(w http.ResponseWriter, r *http.Request, q EventQuery) {
	unbounded(r.Context())
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	stream := &eventStream{w: w, control: http.NewResponseController(w)}
	if stream.write(": hansa events\n\n") != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var beats sync.WaitGroup
	beats.Go(func() {
		ticker := time.NewTicker(eventBeat)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if stream.write(": beat\n\n") != nil {
					cancel()
					return
				}
			}
		}
	})
	// The writer is the handler's: no beat may follow its end.
	defer beats.Wait()
	defer cancel()
	err := s.backend.WatchEvents(ctx, q, func(e Event) error {
		data, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode event %s: %w", e.ID, err)
		}
		return stream.write("id: " + oneLine(e.ID) + "\nevent: " + oneLine(e.Type) + "\ndata: " + string(data) + "\n\n")
	})
	if err != nil && r.Context().Err() == nil && ctx.Err() == nil {
		s.log.Debug("an event stream ended", "request", infoOf(r.Context()).id, "error", err)
	}
}

// oneLine keeps text from breaking the framing of a stream.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == 0 {
			return ' '
		}
		return r
	}, s)
}

package kube

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// server answers the question whether it is ready with a status, and counts.
type server struct {
	*presence
	status, asked atomic.Int64
}

func newServer(t *testing.T, status int) *server {
	t.Helper()
	s := &server{}
	s.status.Store(int64(status))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.asked.Add(1); r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(int(s.status.Load()))
	}))
	t.Cleanup(web.Close)
	var err error
	if s.presence, err = newPresence(&rest.Config{Host: web.URL}, web.Client(), hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	return s
}

var errFailed = errors.New("connection refused")

func TestOneAsksForAllThatWait(t *testing.T) {
	s := newServer(t, http.StatusServiceUnavailable)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := s.await(t.Context(), errFailed); err != nil {
				t.Error(err)
			}
		})
	}
	for s.asked.Load() < 3 {
		time.Sleep(5 * time.Millisecond)
	}
	s.status.Store(http.StatusOK)
	all.Wait()
	if asked := s.asked.Load(); asked > 5 {
		t.Errorf("50 that waited asked %d times", asked)
	}
}

func TestWhoWaitsForAnAPIServerCanBeStopped(t *testing.T) {
	s := newServer(t, http.StatusUnauthorized)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- s.await(ctx, errFailed) }()
	}
	for s.asked.Load() == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	for range 2 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	}
	// Whoever comes then asks in its place.
	s.status.Store(http.StatusOK)
	if err := s.await(t.Context(), errFailed); err != nil {
		t.Error(err)
	}
}

func TestWhoForbidsTheQuestionForLongIsThere(t *testing.T) {
	s := newServer(t, http.StatusForbidden)
	began := time.Now()
	if err := s.await(t.Context(), errFailed); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < presenceForbidden {
		t.Errorf("believed after %v", took)
	}
}

func TestWhatFailsWhileTheAPIServerIsReadyIsAnError(t *testing.T) {
	s := newServer(t, http.StatusOK)
	asked := 0
	_, err := withPatience(t.Context(), s.presence, func(context.Context) (int, error) { asked++; return 0, errFailed })
	if !errors.Is(err, errFailed) || asked != patience+1 {
		t.Errorf("asked %d times, then %v", asked, err)
	}
}

func TestWhatTheAPIServerSaysOfARequestIsNoAbsence(t *testing.T) {
	resource := schema.GroupResource{Resource: "pods"}
	for err, want := range map[error]bool{
		errFailed:                                     true,
		context.DeadlineExceeded:                      true,
		apierrors.NewUnauthorized("expired"):          true,
		apierrors.NewServiceUnavailable("starting"):   true,
		apierrors.NewInternalError(errFailed):         true,
		apierrors.NewForbidden(resource, "a", nil):    false,
		apierrors.NewNotFound(resource, "a"):          false,
		apierrors.NewResourceExpired("410"):           false,
		apierrors.NewTooManyRequestsError("too many"): false,
	} {
		if got := isAbsence(err); got != want {
			t.Errorf("%v: %t, want %t", err, got, want)
		}
	}
}

package lookups

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// egress notes what it is told, and answers with what a test says. It is the connection.
type egress struct {
	mu     sync.Mutex
	calls  [][]string
	fail   error
	accept int // Of each call; -1 is all.
}

func (e *egress) Invoke(_ context.Context, _ string, request, reply any, _ ...grpc.CallOption) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	names := request.(*egressv1.ReportNamesRequest).GetNames()
	e.calls = append(e.calls, names)
	if e.fail != nil {
		return e.fail
	}
	accepted := uint32(len(names))
	if e.accept >= 0 {
		accepted = uint32(e.accept)
	}
	reply.(*egressv1.ReportNamesResponse).Accepted = accepted
	return nil
}

func (e *egress) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "no streams")
}

// told returns the calls since the last time, and says what the next ones get.
func (e *egress) told(fail error) [][]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	calls := e.calls
	e.calls, e.fail = nil, fail
	return calls
}

func start(t *testing.T, wildcards ...string) (*Reporter, *egress) {
	t.Helper()
	e := &egress{accept: -1}
	r := New(e, "node1", hclog.NewNullLogger())
	r.Follow(wildcards)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return r, e
}

func want(t *testing.T, when string, got [][]string, want ...[]string) {
	t.Helper()
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%s: egress was told %v, want %v", when, got, want)
	}
}

func TestANameIsToldAtOnceAndAgainAfterTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, e := start(t, "*.example.com")
		look := func(name string) { r.Answer(answer(t, name, nil)); synctest.Wait() }
		look("www.example.com")
		want(t, "at once", e.told(nil), []string{"www.example.com"})
		look("www.example.com")
		look("www.example.org")
		look("example.com")
		look("a.b.example.com")
		want(t, "known, of others, of the zone itself, further below", e.told(nil), []string{"a.b.example.com"})
		time.Sleep(renewAfter)
		look("www.example.com")
		want(t, "ten minutes later", e.told(nil), []string{"www.example.com"})
		r.Follow([]string{"*.b.example.com", "*.example.com"})
		look("www.example.com")
		want(t, "with another wildcard", e.told(nil), []string{"www.example.com"})
		r.Follow(nil)
		look("ftp.example.com")
		want(t, "without any", e.told(nil))
	})
}

func TestAReportIsRepeatedUntilEgressHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, e := start(t, "*.example.com")
		e.told(status.Error(codes.Unavailable, "away"))
		r.Answer(answer(t, "www.example.com", nil))
		synctest.Wait()
		r.Answer(answer(t, "ftp.example.com", nil))
		synctest.Wait()
		both := []string{"ftp.example.com", "www.example.com"}
		want(t, "while it is away", e.told(nil), []string{"www.example.com"}, both)
		time.Sleep(retryAfter)
		synctest.Wait()
		want(t, "after a pause", e.told(nil), both)
		time.Sleep(time.Minute)
		want(t, "after that", e.told(nil))
	})
}

func TestWhatEgressDoesNotTakeIsToldAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, e := start(t, "*.example.com")
		e.accept = 0
		for _, fail := range []error{nil, status.Error(codes.InvalidArgument, "no")} {
			e.told(fail)
			r.Answer(answer(t, "www.example.com", nil))
			r.Answer(answer(t, "www.example.com", nil))
			synctest.Wait()
			want(t, "at first", e.told(fail), []string{"www.example.com"})
			time.Sleep(refusedAfter)
		}
	})
}

func TestManyNamesAreToldAHundredAtATimeAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, e := start(t, "*.example.com")
		e.told(status.Error(codes.Unavailable, "away"))
		for i := range maxWaiting + 50 {
			r.Answer(answer(t, fmt.Sprintf("h%d.example.com", i), nil))
		}
		synctest.Wait()
		e.told(nil)
		time.Sleep(retryAfter)
		synctest.Wait()
		names := map[string]bool{}
		for _, call := range e.told(nil) {
			if len(call) > inCall {
				t.Errorf("%d names in a call", len(call))
			}
			for _, name := range call {
				names[name] = true
			}
		}
		if len(names) != maxWaiting {
			t.Errorf("%d names were told, want %d", len(names), maxWaiting)
		}
	})
}

package needpods

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

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// servicelb stands in for the service's connection: it answers as told, or not at all.
type servicelb struct {
	grpc.ClientConnInterface // nothing else is called

	began time.Time
	mu    sync.Mutex
	codes []codes.Code // of the next calls; then OK
	calls []string
}

// silence is the code of a call that gets no answer.
const silence = codes.Code(100)

func (s *servicelb) Invoke(ctx context.Context, _ string, args, _ any, _ ...grpc.CallOption) error {
	r := args.(*servicelbv1.ReportNeedPodsRequest)
	s.mu.Lock()
	s.calls = append(s.calls, fmt.Sprintf("%v %s/%s@%s", time.Since(s.began), r.GetNamespace(), r.GetName(), r.GetNode()))
	code := codes.OK
	if len(s.codes) > 0 {
		code, s.codes = s.codes[0], s.codes[1:]
	}
	s.mu.Unlock()
	switch code {
	case codes.OK:
		return nil
	case silence:
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Error(code, "as told")
}

// run runs a reporter in a bubble of its own time, and answers the calls that it made.
func run(t *testing.T, codes []codes.Code, do func(r *Reporter)) (calls []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &servicelb{codes: codes, began: time.Now()}
		r := New(s, "n1", hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		do(r)
		time.Sleep(10 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		calls = s.calls
	})
	return calls
}

func TestAReportIsRepeatedUntilItIsTakenOrHasNoSense(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []codes.Code
		want    []string
	}{
		{"taken", nil, []string{"0s shop/web@n1"}},
		{"the service is away for a while", []codes.Code{codes.Unavailable, silence},
			[]string{"0s shop/web@n1", "2s shop/web@n1", "14s shop/web@n1"}},
		{"it is not idled any more", []codes.Code{codes.FailedPrecondition}, []string{"0s shop/web@n1"}},
		{"it is gone", []codes.Code{codes.NotFound}, []string{"0s shop/web@n1"}},
		{"the service does not know the call", []codes.Code{codes.Unimplemented}, []string{"0s shop/web@n1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := run(t, c.answers, func(r *Reporter) { r.Need("shop", "web") })
			if !slices.Equal(got, c.want) {
				t.Errorf("calls %q, want %q", got, c.want)
			}
		})
	}
}

func TestAReportIsGivenUpWhenNothingWaitsAnyMore(t *testing.T) {
	away := slices.Repeat([]codes.Code{codes.Unavailable}, 1000)
	if got := run(t, away, func(r *Reporter) { r.Need("shop", "web") }); len(got) != 60 { // every 2 s for 2 min
		t.Errorf("%d calls: %q", len(got), got)
	}
}

func TestReportsOfOneServiceAreOne(t *testing.T) {
	got := run(t, []codes.Code{silence}, func(r *Reporter) {
		r.Need("shop", "web")
		time.Sleep(time.Second)
		for range 5 {
			r.Need("shop", "web") // while a call is under way: it is repeated once
		}
		time.Sleep(time.Minute)
		r.Need("shop", "db")
		r.Need("shop", "cache")
	})
	if len(got) != 4 || got[0] != "0s shop/web@n1" || got[1] != "10s shop/web@n1" {
		t.Errorf("calls %q", got)
	}
}

package rpcguard_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/rpcguard"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

func TestWhatAHandlerDoesBecomesAStatus(t *testing.T) {
	refused := rpcerr.New(codes.NotFound, "ipam.damask", "GONE", "it is gone", nil)
	for _, c := range []struct {
		name   string
		handle func() error
		code   codes.Code
		says   string
		logged bool
	}{
		{"an answer", func() error { return nil }, codes.OK, "", false},
		{"a status", func() error { return refused }, codes.NotFound, "it is gone", false},
		{"a wrapped status", func() error { return fmt.Errorf("look: %w", refused) }, codes.NotFound, "look: ", false},
		{"an error of its own", func() error { return errors.New("the secret") }, codes.Internal, "internal error", true},
		{"a panic", func() error { panic("the secret") }, codes.Internal, "internal error", true},
		{"too late", func() error { return fmt.Errorf("the secret: %w", context.DeadlineExceeded) }, codes.DeadlineExceeded, "too long", false},
		{"cancelled", func() error { return fmt.Errorf("the secret: %w", context.Canceled) }, codes.Canceled, "cancelled", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log strings.Builder
			reg := prometheus.NewRegistry()
			g, err := rpcguard.New(hclog.New(&hclog.LoggerOptions{Output: hclog.NewLeveledWriter(&log, nil)}), reg)
			if err != nil {
				t.Fatal(err)
			}
			response, err := g.Unary(t.Context(), "/a.B/C", func(context.Context) (any, error) { return "yes", c.handle() })
			if status.Code(err) != c.code || err != nil && !strings.Contains(err.Error(), c.says) || (response == "yes") != (err == nil) {
				t.Errorf("got %v, %v", response, err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") || strings.Contains(log.String(), "secret") != c.logged {
				t.Errorf("the secret went the wrong way: %v, log %q", err, log.String())
			}
			want := "# HELP damask_rpc_calls_total Calls answered, by method and gRPC code.\n# TYPE damask_rpc_calls_total counter\n" +
				fmt.Sprintf("damask_rpc_calls_total{code=%q,method=\"/a.B/C\"} 1\n", c.code)
			if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "damask_rpc_calls_total"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestACallHasADeadline(t *testing.T) {
	g, err := rpcguard.New(hclog.NewNullLogger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	remaining := func(ctx context.Context) time.Duration {
		var left time.Duration
		_, _ = g.Unary(ctx, "/a.B/C", func(ctx context.Context) (any, error) {
			at, _ := ctx.Deadline()
			left = time.Until(at)
			return nil, nil
		})
		return left
	}
	if left := remaining(context.Background()); left <= 0 || left > rpcguard.DefaultDeadline {
		t.Errorf("without one it got %s", left)
	}
	long, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if left := remaining(long); left < 50*time.Minute {
		t.Errorf("its own was cut to %s", left)
	}
}

func TestOnlyServicesThatAreLocalInEveryRPCAreLocal(t *testing.T) {
	if err := rpcguard.LocalOnly(labv1.File_damask_lab_v1_lab_service_proto.Services().ByName("LabService")); err != nil {
		t.Error(err)
	}
	network := ipamv1.File_damask_ipam_v1_host_subnet_service_proto.Services().ByName("HostSubnetService")
	err := rpcguard.LocalOnly(network)
	for i := range network.Methods().Len() {
		want := fmt.Sprintf("RPC /damask.ipam.v1.HostSubnetService/%s: it is not local_only", network.Methods().Get(i).Name())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}

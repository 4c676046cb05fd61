// Package rpcguard is what stands around every call that a Damask server answers,
// whatever carries the call: gRPC on the network, or ttrpc on the CNI socket.
//
// It promises that a call is counted and timed, that a unary one has a deadline,
// that a panic ends the call and not the process, and that an error which is no
// status never tells a caller what is none of its business. It reads the access
// option of an RPC; it must not decide who is admitted, which is the server's.
//
// Used by rpcserve and the node agent.
package rpcguard

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// DefaultDeadline bounds a unary call whose client set no deadline.
const DefaultDeadline = 30 * time.Second

// Guard stands around the calls of one server.
type Guard struct {
	metrics *metrics
	log     hclog.Logger
}

// New makes a guard. reg may be shared by several servers, whose calls are then
// counted together; nil counts nothing.
func New(log hclog.Logger, reg prometheus.Registerer) (*Guard, error) {
	counts, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return &Guard{metrics: counts, log: log}, nil
}

// Unary answers one call by handle. method is the full one,
// "/damask.ipam.v1.HostSubnetService/GetHostSubnet". The error, if any, is a status.
func (g *Guard) Unary(ctx context.Context, method string, handle func(context.Context) (any, error)) (response any, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultDeadline)
		defer cancel()
	}
	err = g.Watch(method, func() (err error) {
		response, err = handle(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// Watch answers one call by handle, however long it takes. The error, if any, is
// a status.
func (g *Guard) Watch(method string, handle func() error) (err error) {
	start := time.Now()
	defer func() {
		if cause := recover(); cause != nil {
			g.log.Error("call panicked", "method", method, "panic", cause, "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "internal error")
		}
		err = g.answer(method, err)
		g.metrics.observe(method, err, time.Since(start))
	}()
	return handle()
}

// answer turns an error that is no status into one. Its text may say things
// that are no business of the caller, so it goes to the log instead.
func (g *Guard) answer(method string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the call took too long")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the call was cancelled")
	}
	g.log.Error("call failed", "method", method, "error", err)
	return status.Error(codes.Internal, "internal error")
}

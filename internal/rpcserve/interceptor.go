package rpcserve

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// interceptor is what stands before every call.
type interceptor struct {
	access   *allowList
	metrics  *metrics
	log      hclog.Logger
	stopping context.Context // ends when the server stops; ends streams
}

func (i *interceptor) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
	start := time.Now()
	defer func() {
		if cause := recover(); cause != nil {
			response, err = nil, i.panicked(info.FullMethod, cause)
		}
		err = i.answer(info.FullMethod, err)
		i.metrics.observe(info.FullMethod, err, time.Since(start))
	}()
	ctx, allowed, err := i.access.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if err := allowed.checkOwnNode(ctx, request); err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultDeadline)
		defer cancel()
	}
	return handler(ctx, request)
}

func (i *interceptor) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	start := time.Now()
	defer func() {
		if cause := recover(); cause != nil {
			err = i.panicked(info.FullMethod, cause)
		}
		err = i.answer(info.FullMethod, err)
		i.metrics.observe(info.FullMethod, err, time.Since(start))
	}()
	ctx, _, err := i.access.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(i.stopping, cancel)()
	return handler(server, &endingStream{ServerStream: stream, ctx: ctx})
}

// endingStream is a stream that ends with the server.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc.ServerStream wants it so
}

// Context knows the caller, and ends when the server stops.
func (s *endingStream) Context() context.Context { return s.ctx }

func (i *interceptor) panicked(method string, cause any) error {
	i.log.Error("call panicked", "method", method, "panic", cause, "stack", string(debug.Stack()))
	return status.Error(codes.Internal, "internal error")
}

// answer turns an error that is no status into one. Its text may say things
// that are no business of the caller, so it goes to the log instead.
func (i *interceptor) answer(method string, err error) error {
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
	i.log.Error("call failed", "method", method, "error", err)
	return status.Error(codes.Internal, "internal error")
}

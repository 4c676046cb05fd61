package rpcserve

import (
	"context"

	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/rpcguard"
)

// interceptor is what stands before every call.
type interceptor struct {
	access   *allowList
	guard    *rpcguard.Guard
	stopping context.Context // ends when the server stops; ends streams
}

func (i *interceptor) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return i.guard.Unary(ctx, info.FullMethod, func(ctx context.Context) (any, error) {
		ctx, allowed, err := i.access.admit(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		if err := allowed.checkOwnNode(ctx, request); err != nil {
			return nil, err
		}
		return handler(ctx, request)
	})
}

func (i *interceptor) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return i.guard.Watch(info.FullMethod, func() error {
		ctx, _, err := i.access.admit(stream.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(i.stopping, cancel)()
		return handler(server, &endingStream{ServerStream: stream, ctx: ctx})
	})
}

// endingStream is a stream that ends with the server.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc.ServerStream wants it so
}

// Context knows the caller, and ends when the server stops.
func (s *endingStream) Context() context.Context { return s.ctx }

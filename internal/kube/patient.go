package kube

import (
	"context"
	"errors"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

// patience is how often a request may fail right after the API server said that it was ready:
// from then on that is an error like any other.
const patience = 3

// patient lists and watches as of does, and waits while the API server is away. A
// reflector that is told of each failure waits longer and longer, up to a minute, also when
// the API server has long been back: so it is not told.
func (p *presence) patient(of toolscache.ListerWatcher) toolscache.ListerWatcher {
	from := toolscache.ToListerWatcherWithContext(of)
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return withPatience(ctx, p, func(ctx context.Context) (runtime.Object, error) { return from.ListWithContext(ctx, options) })
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return withPatience(ctx, p, func(ctx context.Context) (watch.Interface, error) { return from.WatchWithContext(ctx, options) })
		},
	}
}

func withPatience[T any](ctx context.Context, p *presence, ask func(context.Context) (T, error)) (T, error) {
	ctx = context.WithValue(ctx, candidKey{}, true)
	for try := 1; ; try++ {
		answer, err := ask(ctx)
		if err == nil || try > patience || ctx.Err() != nil || !isAbsence(err) || p.await(ctx, err) != nil {
			return answer, err
		}
	}
}

// candidKey marks the requests that are told when there is no answer.
type candidKey struct{}

// candid makes an error of a request that got no answer one that client-go does not know. Of
// those that it knows it makes something else: it repeats the request ten times, or says that
// there was a watch, and that it has ended.
type candid struct{ http.RoundTripper }

// RoundTrip asks.
func (c candid) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := c.RoundTripper.RoundTrip(r)
	if err != nil && r.Context().Err() == nil && r.Context().Value(candidKey{}) != nil {
		err = noAnswer{err}
	}
	return response, err
}

// WrappedRoundTripper is what it asks by.
func (c candid) WrappedRoundTripper() http.RoundTripper { return c.RoundTripper }

// noAnswer hides what was the matter from who looks for words in it.
type noAnswer struct{ why error }

// Error says no more than what it is.
func (noAnswer) Error() string { return "the API server gives no answer" }

// reason is what was the matter.
func reason(err error) error {
	var hidden noAnswer
	if errors.As(err, &hidden) {
		return hidden.why
	}
	return err
}

package kube

import (
	"context"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
)

// maxNote is how long the text of an event may be, in bytes: the API server refuses more.
const maxNote = 1024

// events tells people what became of an object. Many of the same kind are counted, not
// listed, and one that the API server does not take in time is lost: conditions say what is,
// events only what happened.
type events struct {
	record.EventRecorder
	broadcaster record.EventBroadcaster
	sink        record.EventSink
}

func newEvents(cfg *rest.Config, web *http.Client, scheme *runtime.Scheme, service string) (*events, error) {
	api, err := typedcorev1.NewForConfigAndClient(cfg, web)
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	b := record.NewBroadcaster()
	return &events{
		EventRecorder: b.NewRecorder(scheme, corev1.EventSource{Component: "damask-" + service}),
		broadcaster:   b, sink: &typedcorev1.EventSinkImpl{Interface: api.Events("")},
	}, nil
}

// run sends events until ctx ends.
func (e *events) run(ctx context.Context) {
	defer e.broadcaster.Shutdown()
	e.broadcaster.StartRecordingToSink(e.sink)
	<-ctx.Done()
}

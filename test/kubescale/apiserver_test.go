package kubescale

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/damask-sdn/damask/internal/kubetest"
)

// apiserver is what a benchmark asks, and hears from, beside those whom it measures.
type apiserver struct {
	*testing.B
	cluster *kubetest.Cluster
}

// event is something that was told of an object, and when.
type event struct {
	name string
	at   time.Time
}

// watched tells what happens to objects of some kinds, as a watch at the API server does.
func (s *apiserver) watched(api dynamic.Interface, what watch.EventType, kinds ...schema.GroupVersionResource) <-chan event {
	s.Helper()
	events := make(chan event, 100*count)
	for _, kind := range kinds {
		w, err := api.Resource(kind).Watch(context.Background(), metav1.ListOptions{})
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(w.Stop)
		go func() {
			for e := range w.ResultChan() {
				if o, ok := e.Object.(*unstructured.Unstructured); ok && e.Type == what {
					events <- event{o.GetName(), time.Now()}
				}
			}
		}()
	}
	return events
}

// through is a client that reaches the API server through a gate.
func (s *apiserver) through(gate *kubetest.Gate) dynamic.Interface {
	s.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", gate.Kubeconfig(s.B, s.cluster.User))
	if err != nil {
		s.Fatal(err)
	}
	config.QPS = -1
	api, err := dynamic.NewForConfig(config)
	if err != nil {
		s.Fatal(err)
	}
	return api
}

// heard waits until something is told of a name, and answers when.
func (s *apiserver) heard(events <-chan event, name string) time.Time {
	s.Helper()
	for end := time.After(limit); ; {
		select {
		case e := <-events:
			if e.name == name {
				return e.at
			}
		case <-end:
			s.Fatalf("nobody told of %s", name)
		}
	}
}

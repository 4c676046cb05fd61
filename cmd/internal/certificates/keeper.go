package certificates

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/authority"
)

// lookAgain is how often a Keeper looks whether all is as it should be: what it keeps is half
// a dozen objects that people may delete.
const lookAgain = time.Minute

// errNoCA says that the CA is not known yet.
var errNoCA = errors.New("the CA is not known yet")

// Keeper keeps a cluster's CA, and what is trusted and issued. Several may run: whoever
// writes second finds that the object has changed, and looks again.
type Keeper struct {
	// Client speaks to the API server. Required.
	Client kubernetes.Interface
	// Namespace of all that is kept. Required.
	Namespace string
	// TrustDomain of the cluster. Empty: the default one.
	TrustDomain string
	// Services are those whose certificates are issued. None: somebody else issues them,
	// and makes the CA too; what is kept then is the ConfigMap.
	Services []identity.ID
	// Lifetime and CALifetime are of what is issued, and of the CA. Required.
	Lifetime, CALifetime time.Duration
	// Spread is how long a new CA is trusted before it issues. Required.
	Spread time.Duration
	// Now is the clock. Required.
	Now func() time.Time
	// Log. Required.
	Log hclog.Logger

	mu     sync.Mutex
	active *authority.Authority
}

func (k *Keeper) owns() bool { return len(k.Services) > 0 }

func (k *Keeper) secrets() typedcorev1.SecretInterface {
	return k.Client.CoreV1().Secrets(k.Namespace)
}

func (k *Keeper) secret(name string) *corev1.Secret {
	s := &corev1.Secret{Type: corev1.SecretTypeTLS}
	s.Name, s.Namespace, s.Labels = name, k.Namespace, map[string]string{managedBy: keeperName}
	return s
}

// CA is the CA that issues now. It is known after the first Ensure that succeeded that far.
func (k *Keeper) CA() (*authority.Authority, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.active == nil {
		return nil, errNoCA
	}
	return k.active, nil
}

// Run keeps all until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		err := k.Ensure(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
			continue // somebody else did it
		case err != nil:
			k.Log.Warn("keeping certificates, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Ensure makes everything as it should be now. It writes nothing that is right. The error has
// every problem; IsConflict and IsAlreadyExists hold for one that another writer caused.
func (k *Keeper) Ensure(ctx context.Context) error {
	c, err := k.cas(ctx)
	if err != nil {
		return err
	}
	// First everybody gets to know whom to trust.
	if err := k.publish(ctx, c.bundle()); err != nil {
		return err
	}
	k.mu.Lock()
	k.active = c.active
	k.mu.Unlock()
	var problems []error
	for _, id := range k.Services {
		err := k.service(ctx, c, id)
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
			return err
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// publish writes whom to trust.
func (k *Keeper) publish(ctx context.Context, bundle []byte) error {
	maps := k.Client.CoreV1().ConfigMaps(k.Namespace)
	has, err := maps.Get(ctx, CAName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		has = &corev1.ConfigMap{Data: map[string]string{BundleKey: string(bundle)}}
		has.Name, has.Labels = CAName, map[string]string{managedBy: keeperName}
		_, err = maps.Create(ctx, has, metav1.CreateOptions{})
	case err == nil && has.Data[BundleKey] != string(bundle):
		has.Data = map[string]string{BundleKey: string(bundle)}
		_, err = maps.Update(ctx, has, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("publish whom to trust: %w", err)
	}
	return nil
}

// SecretName is where a service's certificate is.
func SecretName(service identity.ID) string { return "damask-" + service.Name + "-tls" }

// service makes a service's Secret what it should be.
func (k *Keeper) service(ctx context.Context, c *cas, id identity.ID) error {
	name := SecretName(id)
	secret, err := k.secrets().Get(ctx, name, metav1.GetOptions{})
	write := k.secrets().Update
	switch {
	case apierrors.IsNotFound(err):
		secret = k.secret(name)
		write = func(ctx context.Context, s *corev1.Secret, _ metav1.UpdateOptions) (*corev1.Secret, error) {
			return k.secrets().Create(ctx, s, metav1.CreateOptions{})
		}
	case err != nil:
		return fmt.Errorf("get the certificate of %s: %w", id, err)
	case secret.Labels[managedBy] != keeperName:
		return fmt.Errorf("secret %s was made by somebody else: delete it, or leave the certificate of %s to him", name, id)
	}
	why := k.replaces(secret, c, id)
	if why == nil && bytes.Equal(secret.Data[BundleKey], c.bundle()) {
		return nil
	}
	if why != nil {
		certificate, key, err := c.active.Issue(id, k.Lifetime)
		if err != nil {
			return err
		}
		secret.Data = map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key}
	}
	secret.Data[BundleKey] = c.bundle()
	if _, err := write(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write the certificate of %s: %w", id, err)
	}
	if why != nil {
		k.Log.Info("issued a certificate", "to", id.String(), "because", why)
	}
	return nil
}

// replaces says why a service needs another certificate; nil: it needs none.
func (k *Keeper) replaces(secret *corev1.Secret, c *cas, id identity.ID) error {
	if len(secret.Data) == 0 {
		return errors.New("it has none")
	}
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return err
	}
	return outdated(pair.Leaf, c.active.Certificate(), k.TrustDomain, id, k.Now())
}

// outdated says why a certificate is not good enough any more.
func outdated(leaf, ca *x509.Certificate, trustDomain string, id identity.ID, now time.Time) error {
	if trustDomain == "" {
		trustDomain = identity.DefaultTrustDomain
	}
	switch has, err := identity.FromCertificate(trustDomain, leaf); {
	case err != nil:
		return err
	case has != id:
		return fmt.Errorf("it is the certificate of %s", has)
	case leaf.CheckSignatureFrom(ca) != nil:
		return errors.New("another CA issues now")
	case !now.Before(renewAt(leaf)):
		return fmt.Errorf("it ends at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

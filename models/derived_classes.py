"""Classes made from the stock ones: subclasses with a model_type of their own, which the Auto classes know.

One derived from BertModel for the prefix "sparse-" is SparseBertModel, its config SparseBertConfig, their
model_type sparse-bert.
"""

from models import architectures, enct5
from utils import families


class DerivedConfig:
    """Mixed into a stock config class.  The first one made registers its models, as importing their code
    takes seconds."""

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self._classes.register_models(self.model_type)


def become(config, config_class):
    """Make a config one of another class, in place; one that was loaded says its model_type itself, and that
    is the class's."""
    config.__class__ = config_class
    vars(config).pop("model_type", None)


class DerivedClasses:
    """One kind of changed structure.

    prefix: of the model_type, SPARSE or EXPERTS of utils/families.py.  mixin: extends each stock model class.
    names: of the families that have it.
    """

    def __init__(self, prefix, mixin, names):
        self.prefix, self.names, self._mixin = prefix, tuple(names), mixin
        self._name = prefix.removesuffix("-").capitalize()
        self._configs, self._models, self._registered = {}, {}, set()

    def config_class(self, stock):
        """The config class for a stock config class."""
        if stock not in self._configs:
            members = {
                "model_type": self.prefix + stock.model_type,
                "_classes": self,
                "__module__": self._mixin.__module__,
            }
            self._configs[stock] = type(self._name + stock.__name__, (DerivedConfig, stock), members)
        return self._configs[stock]

    def model_class(self, stock):
        """The model class for a stock model class."""
        if stock not in self._models:
            config = self.config_class(stock.config_class)
            members = {"config_class": config, "stock": stock, "__module__": self._mixin.__module__}
            self._models[stock] = type(self._name + stock.__name__, (self._mixin, stock), members)
        return self._models[stock]

    def register(self):
        """Make AutoConfig, and by way of the configs AutoModel and its task heads, know these models;
        cheap.  Families that came to transformers after the installed version are left out."""
        import transformers

        for name in self.names:
            family = families.of(name)
            stock = [getattr(transformers, f"{family.stock}Config", None)]
            if stock == [None]:
                continue
            stock += [enct5.config_class(name)] if family.decoder is not None else []
            for config in map(self.config_class, stock):
                transformers.AutoConfig.register(config.model_type, config, exist_ok=True)

    def register_models(self, model_type):
        """Make the Auto classes know one family's models; once."""
        import transformers

        if model_type in self._registered:
            return
        self._registered.add(model_type)
        for kind in (None, *families.of(model_type).tasks):
            auto = getattr(
                transformers, "AutoModel" if kind is None else f"AutoModelFor{families.HEADS[kind]}"
            )
            model_class = self.model_class(architectures.stock_class(model_type, kind))
            auto.register(model_class.config_class, model_class, exist_ok=True)


def stock_parent(model):
    """The stock class behind a model's class."""
    return getattr(type(model), "stock", type(model))

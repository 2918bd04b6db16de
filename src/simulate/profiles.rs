//! The eight spending profiles: how much, when in the day, on what, legitimate and fraudulent.
//!
//! The one law: these are the generator's published numbers, unrounded; nothing is tuned.

use rand::{Rng, RngExt};

/// What a purchase is for, in the order the cumulative weights are taken.
pub(super) const CATEGORIES: [&str; 14] = [
    "gas_transport",
    "grocery_net",
    "grocery_pos",
    "misc_net",
    "misc_pos",
    "shopping_net",
    "shopping_pos",
    "entertainment",
    "food_dining",
    "health_fitness",
    "home",
    "kids_pets",
    "personal_care",
    "travel",
];

/// Who spends alike: age (under 25, to 50, above), where (a town of 2,500 and more is urban), and gender where it
/// matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    AdultUrbanFemale,
    AdultRuralFemale,
    AdultUrbanMale,
    AdultRuralMale,
    SeniorUrban,
    SeniorRural,
    YoungUrban,
    YoungRural,
}

/// Mean and standard deviation of an amount.
type Amount = (f64, f64);

/// How one kind of purchase (legitimate or fraudulent) is drawn.
#[derive(Debug)]
pub(super) struct Spending {
    /// Bounds of the count drawn once a customer: rows a day over two years, or frauds of a burst.
    pub count: (u32, u32),
    /// Share of purchases before noon.
    pub morning: f64,
    pub weights: [u32; 14],
    pub amounts: [Amount; 14],
}

/// A segment's two kinds of spending.
#[derive(Debug)]
pub(super) struct Profile {
    pub legit: Spending,
    pub fraud: Spending,
}

/// A category, and on which side of noon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub category: usize,
    pub morning: bool,
}

impl Spending {
    /// Category and half-day from one uniform draw, as the generator does: the first categories are bought before noon.
    pub fn choose(&self, rng: &mut impl Rng) -> Choice {
        self.at(rng.random())
    }

    /// The same, on a given side of noon.
    pub fn choose_in(&self, morning: bool, rng: &mut impl Rng) -> Choice {
        let u: f64 = rng.random();
        let u = if morning { u * self.morning } else { self.morning + u * (1.0 - self.morning) };
        Choice { morning, ..self.at(u) }
    }

    fn at(&self, u: f64) -> Choice {
        let total: u32 = self.weights.iter().sum();
        let mut cumulative = 0;
        let reached = |weight: &u32| {
            cumulative += weight;
            f64::from(cumulative) > u * f64::from(total)
        };
        let category = self.weights.iter().position(reached).unwrap_or(CATEGORIES.len() - 1);
        Choice { category, morning: u < self.morning }
    }
}

impl Segment {
    /// All, with the number of men and women the data set has in each (981 customers): women, men.
    pub const OBSERVED: [(Self, u32, u32); 8] = [
        (Self::AdultUrbanFemale, 115, 0),
        (Self::AdultRuralFemale, 112, 0),
        (Self::AdultUrbanMale, 0, 117),
        (Self::AdultRuralMale, 0, 94),
        (Self::SeniorUrban, 118, 125),
        (Self::SeniorRural, 109, 116),
        (Self::YoungUrban, 23, 20),
        (Self::YoungRural, 18, 14),
    ];

    pub fn is_urban(self) -> bool {
        matches!(self, Self::AdultUrbanFemale | Self::AdultUrbanMale | Self::SeniorUrban | Self::YoungUrban)
    }

    /// Ages in years, inclusive.
    pub fn ages(self) -> (u32, u32) {
        match self {
            Self::YoungUrban | Self::YoungRural => (15, 24),
            Self::SeniorUrban | Self::SeniorRural => (50, 95),
            _ => (25, 49),
        }
    }

    /// Weights of Monday to Sunday.
    pub fn weekdays(self) -> [u32; 7] {
        match self {
            Self::AdultUrbanFemale | Self::SeniorUrban | Self::SeniorRural => [80, 90, 100, 100, 150, 175, 175],
            Self::AdultRuralFemale | Self::AdultUrbanMale | Self::AdultRuralMale => [80, 90, 100, 100, 125, 150, 150],
            Self::YoungUrban => [60, 70, 80, 90, 180, 250, 175],
            Self::YoungRural => [80, 80, 80, 80, 200, 250, 150],
        }
    }

    /// Weights of the two years.
    pub fn years(self) -> [u32; 2] {
        if self == Self::YoungRural { [100, 120] } else { [100, 100] }
    }

    pub fn profile(self) -> &'static Profile {
        match self {
            Self::AdultUrbanFemale => &ADULT_URBAN_FEMALE,
            Self::AdultRuralFemale => &ADULT_RURAL_FEMALE,
            Self::AdultUrbanMale => &ADULT_URBAN_MALE,
            Self::AdultRuralMale => &ADULT_RURAL_MALE,
            Self::SeniorUrban => &SENIOR_URBAN,
            Self::SeniorRural => &SENIOR_RURAL,
            Self::YoungUrban => &YOUNG_URBAN,
            Self::YoungRural => &YOUNG_RURAL,
        }
    }
}

/// Fraud weights: who is attacked on what.
const FRAUD_A: [u32; 14] = [50, 10, 150, 75, 100, 150, 175, 100, 110, 100, 150, 135, 125, 35];
const FRAUD_B: [u32; 14] = [95, 10, 200, 75, 100, 200, 200, 90, 100, 90, 150, 135, 125, 35];
const FRAUD_C: [u32; 14] = [100, 25, 300, 155, 25, 300, 100, 20, 10, 5, 5, 10, 15, 15];
const FRAUD_D: [u32; 14] = [100, 15, 275, 165, 25, 280, 150, 22, 10, 5, 5, 10, 15, 15];
const FRAUD_E: [u32; 14] = [90, 35, 300, 155, 25, 285, 115, 30, 10, 5, 5, 15, 35, 15];

/// Fraud amounts that most segments share.
#[rustfmt::skip]
const FRAUD_AMOUNTS: [Amount; 14] = [
    (10., 2.), (10., 2.), (300., 20.), (800., 80.), (8., 1.), (1000., 100.), (800., 80.), (500., 50.), (120., 12.),
    (20., 2.), (250., 25.), (20., 2.), (20., 2.), (10., 1.),
];
#[rustfmt::skip]
const SENIOR_RURAL_FRAUD_AMOUNTS: [Amount; 14] = [
    (20., 2.), (15., 2.), (325., 20.), (800., 80.), (50., 1.), (1000., 100.), (825., 80.), (600., 50.), (120., 12.),
    (20., 2.), (400., 25.), (5., 2.), (50., 2.), (1., 1.),
];

/// [`FRAUD_AMOUNTS`] with some of them replaced.
const fn except<const N: usize>(changes: [(usize, Amount); N]) -> [Amount; 14] {
    let mut amounts = FRAUD_AMOUNTS;
    let mut i = 0;
    while i < N {
        amounts[changes[i].0] = changes[i].1;
        i += 1;
    }
    amounts
}

static ADULT_URBAN_FEMALE: Profile = Profile {
    legit: Spending {
        count: (1, 6),
        morning: 0.30,
        weights: [50, 100, 150, 75, 100, 150, 175, 100, 110, 100, 150, 135, 125, 35],
        #[rustfmt::skip]
        amounts: [
            (70., 15.), (60., 20.), (200., 20.), (100., 150.), (80., 100.), (100., 200.), (100., 225.), (100., 75.),
            (60., 40.), (60., 50.), (60., 50.), (60., 50.), (55., 50.), (60., 600.),
        ],
    },
    fraud: Spending {
        count: (2, 16),
        morning: 0.60,
        weights: FRAUD_A,
        amounts: except([(1, (12., 2.)), (2, (350., 20.))]),
    },
};

static ADULT_RURAL_FEMALE: Profile = Profile {
    legit: Spending {
        count: (1, 6),
        morning: 0.30,
        weights: [225, 50, 150, 75, 100, 110, 150, 90, 100, 90, 150, 135, 125, 35],
        #[rustfmt::skip]
        amounts: [
            (60., 15.), (50., 20.), (100., 20.), (60., 150.), (50., 150.), (50., 300.), (50., 250.), (50., 50.),
            (30., 50.), (50., 50.), (50., 50.), (50., 50.), (45., 50.), (50., 600.),
        ],
    },
    fraud: Spending {
        count: (7, 16),
        morning: 0.50,
        weights: FRAUD_B,
        amounts: except([(1, (8., 2.)), (2, (350., 20.)), (4, (800., 80.)), (6, (900., 120.))]),
    },
};

static ADULT_URBAN_MALE: Profile = Profile {
    legit: Spending {
        count: (1, 5),
        morning: 0.30,
        weights: [150, 80, 150, 75, 100, 100, 125, 110, 110, 100, 150, 110, 75, 45],
        #[rustfmt::skip]
        amounts: [
            (70., 15.), (50., 20.), (60., 20.), (50., 150.), (60., 150.), (60., 300.), (60., 300.), (60., 75.),
            (40., 50.), (60., 50.), (60., 50.), (60., 50.), (35., 50.), (60., 600.),
        ],
    },
    fraud: Spending { count: (7, 12), morning: 0.50, weights: FRAUD_C, amounts: FRAUD_AMOUNTS },
};

static ADULT_RURAL_MALE: Profile = Profile {
    legit: Spending {
        count: (1, 4),
        morning: 0.45,
        weights: [50, 50, 150, 30, 100, 100, 100, 105, 100, 90, 150, 110, 50, 45],
        #[rustfmt::skip]
        amounts: [
            (70., 5.), (50., 5.), (100., 10.), (100., 20.), (35., 5.), (95., 10.), (135., 12.), (75., 7.),
            (60., 6.), (75., 2.), (80., 8.), (50., 5.), (75., 5.), (500., 50.),
        ],
    },
    fraud: Spending { count: (8, 14), morning: 0.30, weights: FRAUD_C, amounts: FRAUD_AMOUNTS },
};

static SENIOR_URBAN: Profile = Profile {
    legit: Spending {
        count: (0, 3),
        morning: 0.60,
        weights: [150, 25, 150, 50, 100, 75, 150, 115, 120, 80, 150, 150, 120, 60],
        #[rustfmt::skip]
        amounts: [
            (70., 15.), (90., 20.), (90., 20.), (55., 150.), (60., 150.), (80., 200.), (45., 200.), (50., 75.),
            (80., 50.), (40., 50.), (60., 50.), (80., 50.), (45., 50.), (60., 600.),
        ],
    },
    fraud: Spending {
        count: (7, 12),
        morning: 0.30,
        weights: FRAUD_D,
        amounts: except([(5, (1000., 90.)), (6, (950., 80.)), (7, (400., 40.))]),
    },
};

static SENIOR_RURAL: Profile = Profile {
    legit: Spending {
        count: (1, 4),
        morning: 0.50,
        weights: [225, 15, 150, 100, 65, 125, 110, 120, 90, 125, 150, 150, 120, 60],
        #[rustfmt::skip]
        amounts: [
            (60., 15.), (50., 20.), (130., 20.), (60., 150.), (50., 150.), (50., 150.), (50., 150.), (50., 50.),
            (50., 50.), (50., 50.), (50., 50.), (50., 50.), (50., 50.), (60., 600.),
        ],
    },
    fraud: Spending { count: (4, 15), morning: 0.30, weights: FRAUD_E, amounts: SENIOR_RURAL_FRAUD_AMOUNTS },
};

static YOUNG_URBAN: Profile = Profile {
    legit: Spending {
        count: (0, 6),
        morning: 0.20,
        weights: [200, 60, 75, 80, 100, 125, 150, 120, 120, 100, 85, 125, 100, 55],
        #[rustfmt::skip]
        amounts: [
            (60., 15.), (40., 20.), (70., 20.), (50., 150.), (50., 150.), (50., 300.), (50., 300.), (50., 50.),
            (30., 50.), (50., 50.), (50., 50.), (50., 50.), (35., 50.), (50., 600.),
        ],
    },
    fraud: Spending { count: (8, 16), morning: 0.50, weights: FRAUD_C, amounts: FRAUD_AMOUNTS },
};

static YOUNG_RURAL: Profile = Profile {
    legit: Spending {
        count: (0, 6),
        morning: 0.20,
        weights: [150, 80, 50, 100, 100, 100, 100, 130, 140, 110, 50, 75, 100, 35],
        #[rustfmt::skip]
        amounts: [
            (60., 15.), (30., 20.), (60., 20.), (120., 60.), (140., 90.), (90., 120.), (150., 35.), (90., 30.),
            (20., 50.), (40., 50.), (40., 50.), (50., 50.), (35., 50.), (40., 600.),
        ],
    },
    fraud: Spending { count: (5, 19), morning: 0.40, weights: FRAUD_C, amounts: except([(6, (1200., 80.))]) },
};
